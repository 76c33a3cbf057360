"""A real Prometheus reads a running pipeline. Each alert fires when its condition is made, and resolves when the condition ends.

The alerts are those of docs/monitoring/alerts.yml with scaled durations (tests/support/prometheus.py): a batch is stale after
seconds and not after half an hour, and each alert fires after its condition has lasted for a second. The alerts about the disk's
trend over days, which cannot be scaled, are tested by docs/monitoring/alerts_test.yml alone.
"""

import json
import os
import signal
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlflow.artifacts
import psycopg
import pytest
import search_path
from listener_processes import RAKUTEN, login_variables
from monitored_listeners import MonitoredListeners
from programs import needs
from prometheus import Prometheus, rules
from psycopg import sql
from psycopg.types.json import Jsonb
from recorded_results import drift_entry
from server_process import ModelServer
from waiting import eventually

from db.database import Role
from db.source.training_set import read_training_set
from listeners.promotion.rollback import roll_back
from listeners.tracking.runs import Tracking
from shared.config import environment_for
from shared.errors import BadInputError
from shared.events import Stage
from shared.mlflow_names import Tag, parquet_name

pytestmark = [
    needs("prometheus"),
    pytest.mark.timeout(1800),
]
DEADLINE_S = 300  # a listener imports MLflow and scikit-learn, which takes minutes on a busy machine
TOKEN = "a-token"  # noqa: S105
PRODUCT = json.dumps({"designation": "Piscine gonflable ronde 3 m"}).encode()
DISK_BYTES = 300 << 20
# The time since the last load and the last verification passes by itself, so these two are no sign of a fault here.
BY_TIME = {"RakutenNoLoad", "RakutenVerifyOld"}
MADE = set()  # the alerts whose condition a test has made


class System:
    """The whole pipeline with a week and a champion, a second model server that has none, and a Prometheus."""

    def __init__(self, stack, server, database, empty_database, settings, load, directory):
        self.server, self.database, self.settings, self._load = server, database, settings, load
        self.listeners = MonitoredListeners(database, settings)
        self.model_server = ModelServer(database, settings)
        self.server_without_model = ModelServer(
            empty_database, settings.model_copy(update={"state_path": empty_database.settings.state_path})
        )
        for each in (self.model_server, self.server_without_model):
            stack.callback(_killed, each.start())
        stack.callback(self.listeners.kill)
        self.listeners.start()
        self.train(1)
        eventually(
            lambda: self.ask(self.model_server) == 200, DEADLINE_S, report=self.model_server.log.read_text
        )
        addresses = [
            [f"127.0.0.1:{port}" for port in ports]
            for ports in (
                self.listeners.ports.values(),
                (self.model_server.port, self.server_without_model.port),
            )
        ]
        self.prometheus = stack.enter_context(Prometheus(directory, *addresses, TOKEN))

    def load(self, weeks=1):
        self._load(self.database, self.settings, weeks)

    def train(self, models):
        """Load weeks until there are so many, and wait for their models."""
        self.load(max(0, models - len(self.listeners.status())))

        def trained():
            return sum(row["training_state"] == "finished" for row in self.listeners.status()) >= models

        eventually(trained, models * DEADLINE_S, report=self.listeners.status)

    def superuser(self, database=None):
        return psycopg.connect(
            self.server.conninfo(database or self.settings.postgres_db),
            autocommit=True,
            options=search_path.OPTION,
        )

    def dataset_file(self, batch):
        """The parquet file of a batch's dataset in MLflow."""
        run = Tracking(self.settings).client.get_run(batch["dataset_run_id"])
        return Path(mlflow.artifacts.download_artifacts(run.info.artifact_uri)) / parquet_name(
            run.info.run_name
        )

    def make_champion(self, version):
        conninfo = self.database.conninfo(Role.TRAINING)
        with suppress(BadInputError):  # it is the champion already
            roll_back(Tracking(self.settings), conninfo, version, reason="test", by="test")

    def rakuten(self, *arguments):
        login = login_variables(self.database.conninfo(Role.READER))
        return subprocess.run(
            [RAKUTEN, *arguments],
            env=environment_for(self.settings) | login,
            cwd=self.settings.state_path,
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, server):
        """The status with which a server answers a prediction, or None if it does not answer."""
        request = Request(
            f"http://127.0.0.1:{server.port}/predict", PRODUCT, {"Authorization": f"Bearer {TOKEN}"}
        )
        try:
            with urlopen(request, timeout=10) as answer:  # noqa: S310  our own server
                return answer.status
        except HTTPError as error:
            return error.code
        except OSError:
            return None

    def fires(self, *names, meanwhile=lambda: None):
        def all_fire():
            meanwhile()
            return set(names) <= self.prometheus.firing()

        eventually(all_fire, DEADLINE_S, report=lambda: (names, self.prometheus.alerts()))
        MADE.update(names)

    def resolves(self, *names, meanwhile=lambda: None):
        def none_fires():
            meanwhile()
            return not set(names) & self.prometheus.firing()

        eventually(none_fires, DEADLINE_S, report=self.prometheus.alerts)


@contextmanager
def changed(file):
    """Append a byte to a file, or create it with one, until the end of the block."""
    before = file.read_bytes() if file.exists() else None
    with file.open("ab") as opened:
        opened.write(b"x")
    try:
        yield
    finally:
        file.unlink() if before is None else file.write_bytes(before)


def _killed(process):
    process.kill()
    process.wait()


@contextmanager
def small_disk(directory):
    """A disk of its own for STATE_PATH, in memory. Without the right to mount one, it is a plain folder, and yields False."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", directory]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", directory], check=True)  # noqa: S607


@pytest.fixture(scope="module")
def started(server, shared_database, generated, load_weeks_into, tmp_path_factory):
    directory = tmp_path_factory.mktemp("monitoring")
    with ExitStack() as stack:
        database, empty = (stack.enter_context(shared_database()) for _ in range(2))
        has_disk = stack.enter_context(small_disk(directory / "state"))
        quick = {
            "poll_interval_s": 0.5,
            "ping_interval_s": 0.5,
            "max_attempts": 1,
            "retry_max_s": 1.0,
            "outage_retry_max_s": 1.0,
            "serve_token": TOKEN,
            "state_path": directory / "state",
            "data_path": generated,
        }
        settings = type(database.settings)(**database.settings.model_dump() | quick, _env_file=None)
        empty.settings.state_path.mkdir(parents=True)
        training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)

        def load(database, settings, count):
            load_weeks_into(database, settings, training_set, count)

        system = System(stack, server, database, empty, settings, load, directory / "prometheus")
        system.has_disk = has_disk
        yield system


@pytest.fixture
def system(started):
    """Nothing is wrong but what time alone makes so."""
    started.resolves(*({rule["alert"] for rule in rules()} - BY_TIME))
    return started


def test_prometheus_reads_every_process(system):
    def values(metric):
        return [result["value"][1] for result in system.prometheus.query(metric)]

    eventually(lambda: values("up") == ["1"] * 4, DEADLINE_S, report=lambda: system.prometheus.query("up"))
    assert len(values("rakuten_rows")) == 2  # each listener says so


def test_a_batch_waits_without_a_listener_and_is_given_up_if_its_dataset_was_changed(system):
    system.listeners.stop_one(Stage.TRAINING)
    system.load()
    system.fires("RakutenListenerMissing", "RakutenBatchStale")
    system.listeners.wait(lambda: system.listeners.status()[-1]["snapshot_state"] == "finished")
    with changed(system.dataset_file(system.listeners.status()[-1])):
        system.listeners.start(Stage.TRAINING)
        system.resolves("RakutenListenerMissing")
        system.fires("RakutenStageGivenUp")
    with system.database.connect(Role.TRAINING, "test", autocommit=True) as connection:
        connection.execute("select retry_stage(batch_id, stage) from stage_ledger where state = 'failed'")
    system.resolves("RakutenStageGivenUp", "RakutenBatchStale")


@contextmanager
def frozen(*processes):
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_if_no_listener_answers_at_all_that_is_noticed_too(system):
    with frozen(*system.listeners.processes.values()):
        system.fires("RakutenListenerMissing")
    system.resolves("RakutenListenerMissing")


def test_a_frozen_listener_is_reported_by_the_other_one(system):
    with frozen(system.listeners.processes[Stage.TRAINING]):
        system.fires("RakutenListenerUnresponsive")
    system.resolves("RakutenListenerUnresponsive")


def test_a_database_that_accepts_no_connection_is_reported_by_both(system):
    name = sql.Identifier(system.settings.postgres_db)
    with system.superuser("postgres") as connection:
        connection.execute(sql.SQL("alter database {} with allow_connections false").format(name))
        try:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ '^rakuten .* metrics$'"
            )
            system.fires("RakutenDatabaseUnavailable")
        finally:
            connection.execute(sql.SQL("alter database {} with allow_connections true").format(name))
    system.resolves("RakutenDatabaseUnavailable")


def test_a_week_that_is_not_loaded_in_time_is_reported(system):
    system.load()
    system.resolves("RakutenNoLoad")
    system.fires("RakutenNoLoad")
    system.load()
    system.resolves("RakutenNoLoad")


def test_a_disk_that_is_nearly_full_is_reported(system):
    if not system.has_disk:
        pytest.skip("only root may mount a small disk")
    filler = system.settings.state_path / "filler"
    free = os.statvfs(system.settings.state_path)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - DISK_BYTES // 50))
    system.fires("RakutenDiskFull")
    filler.unlink()
    system.resolves("RakutenDiskFull")


def test_a_changed_row_and_an_old_verification_are_reported(system):
    def rewrite(statement, *parameters):
        """Change products as their owner can, without leaving a trace in the history."""
        with system.superuser() as connection, connection.transaction():
            connection.execute("alter table products disable trigger _100_audit_update")
            connection.execute(statement, parameters)
            connection.execute("alter table products enable always trigger _100_audit_update")

    with system.superuser() as connection:
        title = connection.execute("select designation from products where id = 1").fetchone()[0]
    rewrite("update products set designation = 'forged' where id = 1")
    assert system.rakuten("verify").returncode == 1
    system.fires("RakutenVerifyFailed")
    rewrite("update products set designation = %s where id = 1", title)
    assert system.rakuten("verify").returncode == 0
    system.resolves("RakutenVerifyFailed", "RakutenVerifyOld")
    system.fires("RakutenVerifyOld")
    assert system.rakuten("verify").returncode == 0
    system.resolves("RakutenVerifyOld")


@contextmanager
def recorded(system, stage, change):
    """Let the owner change what a stage has recorded about the batches: `change` gets and returns the result of each."""
    path = ["{" + f"{stage},result" + "}"]
    with system.superuser() as connection:
        before = connection.execute("select id, metadata #> %s from data_loads order by id", path).fetchall()
        results = {batch_id: result for batch_id, result in before if result is not None}
        update = "update data_loads set metadata = jsonb_set(metadata, %s, %s) where id = %s"
        for batch_id, result in results.items():
            connection.execute(update, [*path, Jsonb(change(dict(result))), batch_id])
        try:
            yield
        finally:
            for batch_id, result in results.items():
                connection.execute(update, [*path, Jsonb(result), batch_id])


def test_three_models_that_are_worse_than_the_champion_are_reported(system):
    system.train(4)
    system.make_champion(1)

    def worse(result):
        return result if result["model_version"] == 1 else result | {"f1_score_ci_high": 0.0}

    with recorded(system, Stage.TRAINING, worse):
        system.fires("RakutenModelsWorse")
    system.resolves("RakutenModelsWorse")


@pytest.mark.parametrize(
    ("feature", "alert"), [("class shares", "RakutenClassShareShifted"), ("language", "RakutenDrifted")]
)
def test_a_batch_that_differs_from_its_reference_is_reported(system, feature, alert):
    entries = [drift_entry(feature, drifted=True)]
    with recorded(system, Stage.SNAPSHOT, lambda result: result | {"drift": entries}):
        system.fires(alert)
    system.resolves(alert)


def test_a_server_that_refuses_the_champion_is_reported(system):
    system.train(2)
    tracking = Tracking(system.settings)
    versions = tracking.client.search_model_versions("name = 'rakuten_classifier'")
    run = tracking.client.get_run(next(each.run_id for each in versions if str(each.version) == "2"))
    folder = mlflow.artifacts.download_artifacts(run.data.tags[Tag.MODEL_URI])
    system.make_champion(1)
    with changed(Path(folder) / "more.txt"):
        system.make_champion(2)
        system.fires("RakutenServerRefusesModel")
    system.resolves("RakutenServerRefusesModel")


def test_a_server_that_answers_with_errors_is_reported_until_it_predicts_again(system):
    def fails():
        assert system.ask(system.server_without_model) == 503

    def predicts():
        assert system.ask(system.model_server) == 200

    system.fires("RakutenServerErrors", meanwhile=fails)
    system.resolves("RakutenServerErrors", meanwhile=predicts)


def test_the_condition_of_every_alert_was_made(started):
    assert {rule["alert"] for rule in rules()} - MADE <= (set() if started.has_disk else {"RakutenDiskFull"})
