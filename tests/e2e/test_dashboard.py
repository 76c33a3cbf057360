"""Each query of the Grafana dashboard has an answer in a real Prometheus that reads a real run."""

import json
import math
import re
import subprocess
from itertools import chain

import pytest
from listener_processes import RAKUTEN, login_variables
from monitoring import TOKEN, Monitored
from panels_of_data import ROWS
from prometheus import PROGRAM, Prometheus
from waiting import eventually

from db.database import Role
from db.source.training_set import read_training_set
from shared.config import environment_for

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Prometheus is not installed (Debian: prometheus)")
DEADLINE_S = 120
PANELS = {panel.title: panel for panel in chain.from_iterable(ROWS.values())}
# The panels that this run cannot fill, with the reason.
WITHOUT_DATA = {
    "Which alerts fire?": "an alert fires only if something is wrong",
    "Which classes have changed most in four weeks?": "Prometheus has run for seconds only",
    "What has drifted?": "the stages record no drift yet",
}
PRODUCT = json.dumps({"designation": "Piscine gonflable ronde 3 m"})


@pytest.fixture(scope="module")
def ask(shared_database, generated, load_weeks_into, tmp_path_factory):
    """Asks a Prometheus that reads a run of two weeks, and sends a request to the run's model server before each question."""
    with shared_database() as database:
        settings = database.settings.model_copy(update={"data_path": generated})
        with Monitored(database, settings) as run:
            training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)
            load_weeks_into(database, settings, training_set, 2)
            run.listeners.wait_for_models(2)
            verify(run.settings, database)
            eventually(lambda: run.predict(PRODUCT) == 200, DEADLINE_S, report=run.server.log.read_text)
            directory = tmp_path_factory.mktemp("monitoring") / "prometheus"
            with Prometheus(directory, *run.addresses, TOKEN) as prometheus:
                yield lambda query: (run.predict(PRODUCT), prometheus.query(query))[1]


def verify(settings, database):
    login = login_variables(database.conninfo(Role.READER))
    environment = environment_for(settings) | login
    done = subprocess.run([RAKUTEN, "verify"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("title", PANELS)
def test_each_query_of_a_panel_has_an_answer(ask, title):
    for legend, expression in PANELS[title].queries.items():
        query = expression.replace(
            "$__rate_interval", "1m"
        )  # Grafana replaces it by four scrape intervals, or more
        if title in WITHOUT_DATA:
            ask(query)  # Prometheus accepts the query
            continue
        rows = eventually(lambda query=query: numbers(ask(query)), DEADLINE_S)
        for row in rows:
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= set(row["metric"]), legend


def numbers(rows: list[dict]) -> list[dict]:
    """The rows with a number, which a rate has only after two scrapes."""
    return [row for row in rows if not math.isnan(float(row["value"][1]))]


def test_only_panels_that_say_so_may_be_empty():
    assert set(WITHOUT_DATA) <= {title for title, panel in PANELS.items() if panel.empty}
