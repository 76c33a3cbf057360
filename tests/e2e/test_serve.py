"""A real model server exchanges its model while clients send requests, and predicts while PostgreSQL or MLflow is unavailable."""

import json
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

import pytest
from mlflow_server import MlflowServer
from proxy import Proxy
from psycopg.conninfo import make_conninfo
from server_process import ModelServer
from stage_work import work_on
from waiting import eventually

from db.batches import pipeline_doctor, rows
from db.database import Database, Role
from db.source.training_set import read_training_set
from listeners.promotion.rollback import roll_back
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from shared.mlflow_names import Tag

DEADLINE_S = 120
CLIENTS = 16
ONE = json.dumps({"designation": "Piscine gonflable ronde 3 m"})
MANY = json.dumps([{"designation": text} for text in ("Piscine", "Un roman de poche", "Peluche", None)])


class ProxiedDatabase(Database):
    """The database as the server reaches it."""

    port: int

    def conninfo(self, role):
        return make_conninfo(super().conninfo(role), host="127.0.0.1", port=self.port)


class System:
    """Two trained weeks in a real MLflow, and a model server that reaches MLflow and PostgreSQL through proxies."""

    def __init__(self, stack, database, settings, mlflow):
        self.database = database
        self.tracking = Tracking(settings)
        embedded = database.embedded
        self.mlflow = stack.enter_context(Proxy(lambda: ("127.0.0.1", mlflow.port)))
        self.postgres = stack.enter_context(Proxy(lambda: (embedded.host, embedded.port)))
        proxied = ProxiedDatabase(database.settings, embedded)
        object.__setattr__(proxied, "port", self.postgres.port)
        own = {"mlflow_tracking_uri": f"http://127.0.0.1:{self.mlflow.port}", "poll_interval_s": 1.0}
        self.server = ModelServer(proxied, settings.model_copy(update=own))

    def roll_back(self, version):
        roll_back(self.tracking, self.database.conninfo(Role.TRAINING), version, reason="test", by="somebody")

    def version(self):
        """The version that the server serves, or None."""
        served = self.server.model()
        return served and served["version"]

    def wait_until_served(self, version):
        eventually(lambda: self.version() == version, DEADLINE_S, report=self.server.log.read_text)

    def wait_for_log(self, event):
        eventually(lambda: event in self.server.log.read_text(), DEADLINE_S, report=self.server.log.read_text)


@pytest.fixture(scope="module")
def trained(shared_database, generated, load_weeks_into, tmp_path_factory):
    with ExitStack() as stack:
        database = stack.enter_context(shared_database())
        mlflow = stack.enter_context(MlflowServer(tmp_path_factory.mktemp("mlflow")))
        own = {"mlflow_tracking_uri": mlflow.url, "data_path": generated}
        settings = database.settings.model_copy(update=own)
        training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)
        for batch_id in load_weeks_into(database, settings, training_set, 2):
            work_on(database, settings, batch_id)
        settings.state_path.mkdir(parents=True, exist_ok=True)
        yield System(stack, database, settings, mlflow)


@pytest.fixture
def system(trained):
    """Version 2 is champion."""
    if str(registry.champion(trained.tracking).version) != "2":
        trained.roll_back(2)
    trained.server.log.write_text("")
    return trained


@pytest.fixture
def running(system):
    """The process of the server."""
    process = system.server.start()
    yield process
    process.kill()
    process.wait()


class Clients:
    """Ask all along, each over a connection of its own; half of them for several products at once."""

    def __init__(self, port):
        self._port = port
        self._stopped = threading.Event()
        self.answers = []  # (status, version in the header, body)

    @contextmanager
    def asking(self):
        threads = [threading.Thread(target=self._ask, args=[(ONE, MANY)[n % 2]]) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def _ask(self, body):
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stopped.is_set():
            try:
                connection.request("POST", "/predict", body)
                answer = connection.getresponse()
                self.answers.append((answer.status, answer.headers["X-Model-Version"], answer.read()))
            except OSError as error:
                self.answers.append((None, None, repr(error)))
        connection.close()


def test_a_swap_under_load_loses_no_request_and_mixes_no_versions(system, running):
    system.wait_until_served(2)
    clients = Clients(system.server.port)
    begun = time.monotonic()
    with clients.asking():
        for version in (1, 2, 1):
            enough = len(clients.answers) + 100
            eventually(lambda: len(clients.answers) > enough, DEADLINE_S)  # noqa: B023  called at once
            system.roll_back(version)
            system.wait_until_served(version)
    rate = len(clients.answers) / (time.monotonic() - begun)
    print(f"{len(clients.answers)} answers, {rate:.0f} a second, during three swaps")
    assert {status for status, _, _ in clients.answers} == {200}
    by_size = {}
    for _, version, body in clients.answers:
        answer = json.loads(body)
        assert str(answer["model"]["version"]) == version
        by_size.setdefault((version, len(answer["predictions"])), set()).add(body)
    # Each version has one answer for each of the two bodies: alone, in a batch, and in the middle of a swap.
    assert {key: len(bodies) for key, bodies in by_size.items()} == dict.fromkeys(
        [("1", 1), ("1", 4), ("2", 1), ("2", 4)], 1
    )
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0


def test_it_predicts_while_postgresql_or_mlflow_is_unavailable_and_then_catches_up(system):
    with ExitStack() as stack:
        with system.mlflow.refusing():  # unavailable at the start
            process = system.server.start()
            stack.callback(process.wait)
            stack.callback(process.kill)
            system.wait_for_log("the champion cannot be checked")
            assert system.server.ask("GET", "/healthz")[0] == 200
            assert system.server.ask("GET", "/readyz")[0] == 503
            assert system.server.ask("POST", "/predict", ONE)[0] == 503
        system.wait_until_served(2)

        with system.mlflow.refusing():  # unavailable at the swap
            system.roll_back(1)
            eventually(
                lambda: system.server.log.read_text().count("the champion cannot be checked") > 1, DEADLINE_S
            )
            assert (system.version(), system.server.ask("POST", "/predict", ONE)[0]) == (2, 200)
        system.wait_until_served(1)

        with system.postgres.refusing():  # the LISTEN connection is cut, and the notification is lost
            system.roll_back(2)
            system.wait_for_log("cannot connect")
            assert (system.version(), system.server.ask("POST", "/predict", ONE)[0]) == (1, 200)
        system.wait_until_served(2)
        eventually(lambda: served_versions(system.database) == [(2, None)], DEADLINE_S)


def test_a_model_that_was_changed_is_refused_reported_and_replaced(system, running):
    system.wait_until_served(2)
    run_id = system.tracking.client.get_model_version(system.tracking.registered_model, "1").run_id
    uri = system.tracking.client.get_run(run_id).data.tags[Tag.MODEL_URI]
    system.tracking.client.set_tag(run_id, Tag.MODEL_URI, f"{uri}-unknown")
    system.roll_back(1)
    eventually(lambda: served_versions(system.database) == [(2, 1)], DEADLINE_S)
    with system.database.connect(Role.READER, "test") as connection:
        found = {row["finding"]: row["subject"] for row in pipeline_doctor(connection)}
    assert found["model server refuses the champion"] == "version 1"
    _, metrics = system.server.ask("GET", "/metrics")
    assert b'rakuten_server_refused_champion{version="1"} 1.0' in metrics
    assert (system.version(), system.server.ask("POST", "/predict", ONE)[0]) == (2, 200)
    system.tracking.client.set_tag(run_id, Tag.MODEL_URI, uri)
    eventually(lambda: served_versions(system.database) == [(1, None)], DEADLINE_S)


def served_versions(database):
    with database.connect(Role.READER, "test") as connection:
        servers = rows(connection, "select version, refused_version from model_servers")
        return [(server["version"], server["refused_version"]) for server in servers]
