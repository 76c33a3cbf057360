"""Each query of the Grafana dashboard has an answer in a real Prometheus that has read a real run."""

import json
import math
import re
import shutil
import subprocess
from itertools import chain

import pytest
from listener_processes import RAKUTEN, login_variables
from make_dashboard import PATH
from monitoring import DEADLINE_S, MONITORING, Monitored, Prometheus
from panels_of_data import ROWS
from waiting import eventually

from db.database import Role
from db.source.training_set import read_training_set
from shared.config import environment_for

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian: apt-get install prometheus)",
)
PANELS = {panel.title: panel for panel in chain.from_iterable(ROWS.values())}
# The panels that this run cannot fill, with the reason.
WITHOUT_DATA = {
    "Which alerts fire?": "nothing is wrong in this run",
    "Which classes have changed most in four weeks?": "Prometheus has run for seconds only",
    "What has drifted?": "the stages record no drift yet",
}
ONE = json.dumps({"designation": "Piscine gonflable ronde 3 m"})


@pytest.fixture(scope="module")
def prometheus(shared_database, generated, load_weeks_into, tmp_path_factory):
    """A Prometheus that reads a run of two weeks, whose model server is asked again and again by `prometheus.query`."""
    with shared_database() as database:
        settings = database.settings.model_copy(update={"data_path": generated})
        with Monitored(database, settings) as run:
            training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)
            load_weeks_into(database, settings, training_set, 2)
            run.listeners.wait_for_models(2)
            verify = subprocess.run(
                [RAKUTEN, "verify"],
                env=environment_for(run.settings) | login_variables(database.conninfo(Role.READER)),
                capture_output=True,
                text=True,
                check=False,
            )
            assert verify.returncode == 0, verify.stdout + verify.stderr
            eventually(lambda: run.predict(ONE) == 200, DEADLINE_S, report=run.server.log.read_text)
            with Prometheus(tmp_path_factory.mktemp("prometheus"), run.ports) as server:
                server.before_each_try = lambda: run.predict(ONE)
                yield server


@pytest.mark.parametrize("title", PANELS)
def test_each_query_of_a_panel_has_an_answer(prometheus, title):
    for legend, expression in PANELS[title].queries.items():
        asked = expression.replace("$__rate_interval", "1m")

        def answers(asked=asked):
            prometheus.before_each_try()
            return [row for row in prometheus.query(asked) if not math.isnan(float(row["value"][1]))]

        if title in WITHOUT_DATA:
            answers()  # no error
            continue
        rows = eventually(answers, DEADLINE_S, report=prometheus.log)
        for row in rows:
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= set(row["metric"]), (legend, row)
        names = [json.dumps(row["metric"], sort_keys=True) for row in rows]
        assert len(names) == len(set(names))


def test_only_panels_that_say_so_may_be_empty():
    assert set(WITHOUT_DATA) <= {title for title, panel in PANELS.items() if panel.empty}


def test_the_dashboard_asks_what_its_panels_say():
    panels = [panel for panel in json.loads(PATH.read_text())["panels"] if panel["type"] != "row"]
    assert {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels} == {
        title: list(panel.queries.values()) for title, panel in PANELS.items()
    }


@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "config", "--syntax-only", "prometheus.yml"],
        ["promtool", "check", "rules", "alerts.yml"],
        ["amtool", "check-config", "alertmanager.yml"],
    ],
    ids=str,
)
def test_the_tools_of_prometheus_accept_our_files(command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
