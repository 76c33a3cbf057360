"""Each query of the Grafana dashboard has an answer in a real Prometheus that reads a real run."""

import json
import math
import re
import subprocess
from contextlib import ExitStack
from functools import partial
from itertools import chain

import pytest
from listener_processes import RAKUTEN, login_variables
from monitored_listeners import MonitoredListeners
from panels_of_data import ROWS
from programs import needs
from prometheus import Prometheus
from server_process import ModelServer
from waiting import eventually

from db.database import Role
from db.source.training_set import read_training_set
from shared.config import environment_for

pytestmark = needs("prometheus")
DEADLINE_S = 120
PANELS = {panel.title: panel for panel in chain.from_iterable(ROWS.values())}
# The panels that this run cannot fill, with the reason.
WITHOUT_DATA = {
    "Which alerts fire?": "an alert fires only if something is wrong",
    "Which classes have changed most in four weeks?": "Prometheus has run for seconds only",
}
PRODUCT = json.dumps({"designation": "Piscine gonflable ronde 3 m"})


@pytest.fixture(scope="module")
def ask(shared_database, generated, load_weeks_into, tmp_path_factory):
    """Asks a Prometheus that reads a run of two weeks, and sends a request to the run's model server before each question."""
    with ExitStack() as stack:
        database = stack.enter_context(shared_database())
        settings = database.settings.model_copy(update={"data_path": generated, "poll_interval_s": 1.0})
        listeners = MonitoredListeners(database, settings)
        stack.callback(listeners.kill)
        listeners.start()
        training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)
        load_weeks_into(database, settings, training_set, 2)
        listeners.wait_for_models(2)
        verify(settings, database)
        server = ModelServer(database, settings)
        process = server.start()
        stack.callback(process.wait)
        stack.callback(process.kill)
        predict = partial(server.ask, "POST", "/predict", PRODUCT)
        eventually(lambda: server.model() is not None, DEADLINE_S, report=server.log.read_text)
        addresses = [
            [f"127.0.0.1:{port}" for port in ports] for ports in (listeners.ports.values(), [server.port])
        ]
        directory = tmp_path_factory.mktemp("monitoring") / "prometheus"
        prometheus = stack.enter_context(Prometheus(directory, *addresses, "no token is needed"))
        yield lambda query: (predict(), prometheus.query(query))[1]


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
