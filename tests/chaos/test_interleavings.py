"""Loads, faults and restarts in any order: after each quiescence the invariants of the design hold.

The listeners are real processes, PostgreSQL and MLflow are real; only the work of a stage is light, so that there is time for
many interleavings. Every one that ever failed is an example of its own at the end.
"""

import os
import signal
from contextlib import ExitStack, suppress
from decimal import Decimal

import forked_listener
import light_handler
import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from waiting import eventually

from db.connect import connect
from db.database import Role
from db.load import steps
from db.source.training_set import read_training_set
from listeners.reconcile import disagreements
from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag

DEADLINE_S = 60
WEEKS = 12
EXPERIMENT = {Stage.SNAPSHOT: DATASET_EXPERIMENT, Stage.TRAINING: MODEL_EXPERIMENT}
stages = st.sampled_from(list(Stage))


class Pipeline(RuleBasedStateMachine):
    """One database, one MLflow, and whatever happens to them."""

    def __init__(self, database, data_path):
        super().__init__()
        self._resources = ExitStack()
        self.database = self._resources.enter_context(database)
        self.settings = self.database.settings.model_copy(
            update={
                "data_path": data_path,
                "mlflow_name_prefix": f"{self.database.settings.postgres_db}-",
                "initial_percentage": Decimal(10),
                "max_attempts": 3,
                "retry_base_s": 0.05,
                "outage_retry_max_s": 0.2,
                "ping_interval_s": 0.2,
                "ping_deadline_s": 1.0,
                "poll_interval_s": 1.0,
                "grace_period_s": 0.2,
            }
        )
        self.training_set = read_training_set(
            data_path, self.settings.random_seed, self.settings.holdout_percentage
        )
        for name in ("faults", "stalled"):
            (self.settings.state_path / name).mkdir(parents=True, exist_ok=True)
        self.listeners = {stage: [] for stage in Stage}
        self.frozen = []
        self.history = 0

    # ---- what happens

    @initialize()
    def begin(self):
        self.load_week()
        for stage in Stage:
            self.start(stage)

    @precondition(lambda self: self.loaded() < WEEKS)
    @rule()
    def load_week(self):
        with connect(self.database.conninfo(Role.LOADER), "test load") as connection:
            plan = steps.check_current_state(connection, self.settings, self.training_set)
            result = steps.load_increment(connection, plan, self.training_set)
            steps.validate_data_load(connection, result.batch_id)
            steps.complete_batch(connection, result.batch_id)

    @precondition(lambda self: self.loaded() < WEEKS)
    @rule(step=st.sampled_from(["claimed", "loaded"]))
    def load_is_killed(self, step):
        """Its batch stays 'running', without rows or with them, until the next load takes it up."""
        with connect(self.database.conninfo(Role.LOADER), "test load") as connection:
            plan = steps.check_current_state(connection, self.settings, self.training_set)
            if step == "claimed":
                steps._claim(connection, plan)
            else:
                steps.load_increment(connection, plan, self.training_set)

    @precondition(lambda self: any(len(running) < 3 for running in self.listeners.values()))
    @rule(stage=stages)
    def start(self, stage):
        if len(self.listeners[stage]) < 3:
            log = self.settings.state_path / f"{stage}.log"
            conninfo = self.database.conninfo(Role[stage.upper()])
            self.listeners[stage].append(forked_listener.start(stage, conninfo, self.settings, log))

    @rule(stage=stages, sent=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def end_a_listener(self, stage, sent):
        if self.listeners[stage]:
            process = self.listeners[stage].pop(0)
            os.kill(process.pid, sent)
            if process not in self.frozen:
                process.join(DEADLINE_S)

    @rule(stage=stages)
    def freeze_a_listener(self, stage):
        for process in self.listeners[stage]:
            if process not in self.frozen and process.is_alive():
                os.kill(process.pid, signal.SIGSTOP)
                self.frozen.append(process)
                return

    @precondition(lambda self: self.frozen)
    @rule()
    def thaw(self):
        """The zombie comes back: its lock may be gone, and its batch another's."""
        process = self.frozen.pop()
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)

    @rule(stage=stages, name=st.sampled_from(["listen", "work", "fence", "identity"]))
    def terminate_backends(self, stage, name):
        self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = %s",
            f"rakuten {stage} {name}",
        )

    @rule(stage=stages, fault=st.sampled_from(light_handler.FAULTS))
    def next_attempt_goes_wrong(self, stage, fault):
        (self.settings.state_path / "faults" / f"{stage} {fault}").touch()

    @rule()
    def stalled_work_goes_on(self):
        for marker in (self.settings.state_path / "stalled").iterdir():
            marker.unlink(missing_ok=True)

    @rule(
        channel=st.sampled_from(["batch_completed", "dataset_ready"]),
        payload=st.one_of(
            st.just('{"v": 1, "batch_id": 1}'),
            st.integers(1, 2**70).map(lambda number: f'{{"v": 1, "batch_id": {number}}}'),
            st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=100),
        ),
    )
    def forge_a_notification(self, channel, payload):
        self.execute("select pg_notify(%s, %s)", channel, payload)

    @rule(stage=stages)
    def delete_a_recorded_run(self, stage):
        """Behind PostgreSQL's back: a listener that starts afterwards finds it missing."""
        rows = self.execute(
            "select run_id from stage_ledger where stage = %s and state = 'finished' order by batch_id", stage
        )
        if rows:
            Tracking(self.settings).client.delete_run(rows[0][0])
            while self.listeners[stage]:
                self.end_a_listener(stage, signal.SIGKILL)

    @rule()
    def quiescence(self):
        """Nothing goes wrong any more, and an operator does what the doctor says about batches that were given up."""
        for fault in (self.settings.state_path / "faults").iterdir():
            fault.unlink(missing_ok=True)
        while self.frozen:
            self.thaw()
        for stage in Stage:
            if not any(process.is_alive() for process in self.listeners[stage]):
                self.start(stage)
        if self.execute("select 1 from data_loads where status = 'running'"):
            self.load_week()
        self.until(self.all_is_done)
        self.check()

    def teardown(self):
        try:
            self.quiescence()
        finally:
            for process in [process for running in self.listeners.values() for process in running]:
                with suppress(ProcessLookupError, AttributeError):
                    os.kill(process.pid, signal.SIGKILL)
                process.join(DEADLINE_S)
            self._resources.close()

    # ---- what must hold

    def check(self):
        tracking = Tracking(self.settings)
        for stage in Stage:
            with connect(self.database.conninfo(Role[stage.upper()]), "test", autocommit=True) as connection:
                batches = self.execute(
                    "select batch_id, run_id, state from stage_ledger where stage = %s", stage
                )
                assert list(disagreements(tracking, connection, stage)) == []
            runs = tracking.runs(EXPERIMENT[stage], Tag.BATCH_ID)
            for batch_id, run_id, state in batches:
                assert state == "finished"
                assert [run.info.run_id for run in runs if run.data.tags[Tag.BATCH_ID] == str(batch_id)] == [
                    run_id
                ]
        [(history, products, loaded)] = self.execute(
            "select (select count(*) from products_history), (select count(*) from products),"
            " (select max(total_rows) from data_loads where status = 'completed')"
        )
        assert history == products == loaded
        assert history >= self.history
        self.history = history

    def all_is_done(self):
        self.stalled_work_goes_on()
        for batch_id, stage in self.execute(
            "select batch_id, stage from stage_ledger where state = 'failed'"
        ):
            with connect(self.database.conninfo(Role[stage.upper()]), "test", autocommit=True) as connection:
                connection.execute("select retry_stage(%s, %s)", [batch_id, stage])
        return not self.execute("select 1 from stage_ledger where state <> 'finished'") and not self.missing()

    def missing(self):
        """A run that was deleted is found when a listener starts; those that were ended then are started by now."""
        tracking = Tracking(self.settings)
        finished = {
            run.info.run_id for stage in Stage for run in tracking.runs(EXPERIMENT[stage], Tag.BATCH_ID)
        }
        recorded = {
            run_id for (run_id,) in self.execute("select run_id from stage_ledger where state = 'finished'")
        }
        return recorded - finished

    # ---- means

    def loaded(self):
        return self.execute("select count(*) from data_loads where status = 'completed'")[0][0]

    def execute(self, statement, *parameters):
        with psycopg.connect(
            self.database.embedded.conninfo(self.database.settings.postgres_db), autocommit=True
        ) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def until(self, condition):
        eventually(condition, DEADLINE_S, report=self.report)

    def report(self):
        logs = [log.read_text()[-3000:] for log in self.settings.state_path.glob("*.log")]
        return "\n".join(map(str, [*self.execute("select * from stage_ledger"), *logs]))


@pytest.fixture
def machine(new_database, generated):
    """Makes state machines; each has a database and names of its own in one MLflow."""
    forked_listener.warm_up()
    training_set = None

    def make():
        nonlocal training_set
        database = new_database()
        return Pipeline(database, generated)

    return make


def test_every_interleaving_ends_with_one_run_a_batch_and_stage(machine):
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=int(os.environ.get("INTERLEAVINGS", "3")),  # noqa: TID251
            stateful_step_count=12,
            deadline=None,
            derandomize="INTERLEAVINGS" not in os.environ,  # noqa: TID251
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
