"""The Grafana dashboard is what its script writes, and a reader understands each of its panels."""

import json
import re
from itertools import chain

import pytest
from make_dashboard import PATH, as_json
from panels_of_data import ROWS

from listeners.monitoring.facts import GAUGES, HISTOGRAMS

DASHBOARD = json.loads(PATH.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def test_the_file_is_what_the_script_writes():
    assert PATH.read_text(encoding="utf-8") == as_json(), "run: make dashboard"


def test_its_rows_go_from_health_to_verification():
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Is it healthy?",
        "Loading progress",
        "Latency",
        "Class shares",
        "Models",
        "Drift",
        "Storage",
        "Model server",
        "Verification",
    ]


def test_each_panel_has_a_title_and_a_number_of_its_own():
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@each_panel
def test_a_panel_says_what_it_shows_and_in_which_unit(panel):
    assert re.fullmatch(r"[A-Z].{15,}\.", panel["description"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None


@each_panel
def test_a_panel_asks_the_source_that_the_reader_chooses(panel):
    assert [target["datasource"]["uid"] for target in panel["targets"]] == ["${datasource}"] * len(
        panel["targets"]
    )


@each_panel
def test_the_same_number_of_both_listeners_is_shown_once(panel):
    """A number of PostgreSQL comes from both listeners, so a query that does not aggregate would show it twice."""
    for target in panel["targets"]:
        if any(name in target["expr"] for name in (*GAUGES, *HISTOGRAMS)):
            assert re.search(r"\bmax( by \(|\()", target["expr"])


def test_every_number_of_the_pipeline_is_on_the_dashboard():
    asked = set(
        re.findall(
            r"rakuten_\w+",
            " ".join(chain(*(panel.queries.values() for row in ROWS.values() for panel in row))),
        )
    )
    assert {name.removesuffix("_bucket") for name in asked} >= {*GAUGES, *HISTOGRAMS}


def test_no_panel_leaves_the_grid():
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_a_legend_names_each_series_of_its_panel():
    for panel in PANELS:
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends)
