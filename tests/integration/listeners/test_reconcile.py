"""MLflow and PostgreSQL, changed behind each other's back, brought in line again."""

import psycopg
import pytest
from click.testing import CliRunner as MlflowRunner
from jobs import claim_job
from mlflow.cli import cli as mlflow_commands
from typer.testing import CliRunner

from db.connect import connect
from db.database import Role
from listeners import reconcile
from listeners.job import Job, Task
from listeners.reconcile import Mismatch
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from rakuten import cli
from shared.config import environment_for
from shared.errors import OutageError
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag

EXPERIMENT = {Stage.SNAPSHOT: DATASET_EXPERIMENT, Stage.TRAINING: MODEL_EXPERIMENT}


@pytest.fixture
def tracking(settings):
    return Tracking(settings)


@pytest.fixture
def session(database):
    def of(stage: Stage):
        return connect(database.conninfo(Role[stage.upper()]), "test", autocommit=True)

    return of


@pytest.fixture
def claim(database, settings):
    """Claim a batch as a worker does, whose session then dies; returns the job."""

    def claimed(batch_id: int, stage: Stage = Stage.SNAPSHOT) -> Job:
        return claim_job(stage, database.conninfo(Role[stage.upper()]), settings, batch_id)

    return claimed


@pytest.fixture
def publish(tracking):
    """Publish a run as a handler does, without its content; `finish=False` leaves it as a killed listener would."""

    def published(job: Job, *, finish: bool = True) -> str:
        tags = {**job.batch.mlflow_tags, "attempt": str(job.attempt)}
        experiment = tracking.experiment_id(EXPERIMENT[job.stage])
        run = tracking.client.create_run(experiment, tags=tags, run_name=f"{job.stage}_week_1")
        if finish:
            tracking.client.set_terminated(run.info.run_id, "FINISHED")
        return run.info.run_id

    return published


@pytest.fixture
def record(session):
    def recorded(job: Job, run_id: str, **result: object) -> None:
        with session(job.stage) as connection:
            connection.execute(
                "select finish_stage(%s, %s, %s, %s)",
                [
                    job.batch.id,
                    job.stage,
                    job.attempt,
                    psycopg.types.json.Jsonb({"run_id": run_id, **result}),
                ],
            )

    return recorded


@pytest.fixture
def found(tracking, session):
    def look(stage: Stage = Stage.SNAPSHOT) -> list[tuple[Mismatch, str]]:
        with session(stage) as connection:
            found = reconcile.disagreements(tracking, connection, stage)
            return [(disagreement.kind, disagreement.run_id) for disagreement in found]

    return look


@pytest.fixture
def mend(database, settings):
    return lambda stage=Stage.SNAPSHOT: reconcile.handle(
        Task(stage, database.conninfo(Role[stage.upper()]), settings, reconcile.__name__)
    )


@pytest.fixture
def state(as_role):
    def read(batch_id: int, stage: Stage = Stage.SNAPSHOT) -> str:
        with as_role(Role.READER) as connection:
            statement = "select state from stage_ledger where batch_id = %s and stage = %s"
            return connection.execute(statement, [batch_id, stage]).fetchone()[0]

    return read


def test_nothing_is_found_where_the_two_agree(load_weeks, claim, publish, record, found):
    [batch_id] = load_weeks(1)
    job = claim(batch_id)
    record(job, publish(job))
    assert found() == []


@pytest.mark.parametrize("collected", [False, True], ids=["deleted", "deleted, then mlflow gc"])
def test_a_batch_whose_run_was_deleted_is_worked_on_again(
    load_weeks, claim, publish, record, found, mend, state, tracking, collected
):
    [batch_id] = load_weeks(1)
    job = claim(batch_id)
    run_id = publish(job)
    record(job, run_id)
    tracking.client.delete_run(run_id)
    if collected:
        done = MlflowRunner().invoke(mlflow_commands, ["gc", "--backend-store-uri", tracking.uri])
        assert done.exit_code == 0, done.output
    assert found() == [(Mismatch.MISSING, run_id)]
    mend()
    assert (found(), state(batch_id)) == ([], "waiting")
    record(again := claim(batch_id), publish(again))
    assert (found(), again.attempt) == ([], 2)


def test_a_deleted_experiment_is_one_finding_and_reopens_nothing(
    load_weeks, claim, publish, record, found, mend, state, tracking, settings
):
    jobs = [claim(batch_id) for batch_id in load_weeks(2)]
    for job in jobs:
        record(job, publish(job))
    experiment = tracking.experiment_id(DATASET_EXPERIMENT)
    tracking.client.delete_experiment(experiment)
    with pytest.raises(OutageError, match="is deleted in MLflow") as outage:
        mend()
    assert outage.value.remedy == f"restore it: mlflow experiments restore -x {experiment}"
    assert {state(job.batch.id) for job in jobs} == {"finished"}
    with pytest.raises(OutageError, match="is deleted in MLflow"):
        Tracking(settings).experiment_id(DATASET_EXPERIMENT)
    tracking.client.restore_experiment(experiment)
    mend()
    assert (found(), {state(job.batch.id) for job in jobs}) == ([], {"finished"})


def test_a_finished_run_that_is_not_the_recorded_one_is_superseded(
    load_weeks, claim, publish, record, found, mend, tracking
):
    [batch_id] = load_weeks(1)
    job = claim(batch_id)
    zombie, run_id = publish(job), publish(job)
    record(job, run_id)
    assert found() == [(Mismatch.SUPERSEDED, zombie)]
    mend()
    assert found() == []
    assert tracking.client.get_run(zombie).info.status == "KILLED"
    assert [run.info.run_id for run in tracking.runs(DATASET_EXPERIMENT, Tag.BATCH_ID)] == [run_id]


def test_the_run_of_a_dead_attempt_is_closed_and_that_of_a_living_one_is_not(
    load_weeks, claim, publish, found, mend, session, tracking
):
    first, second = load_weeks(2)
    dead = publish(job := claim(first), finish=False)
    with session(Stage.SNAPSHOT) as connection:
        connection.execute("select release_stage(%s, 'snapshot', %s)", [first, job.attempt])
    living = publish(claim(second), finish=False)
    assert found() == [(Mismatch.ABANDONED, dead)]
    mend()
    assert found() == []
    assert tracking.client.get_run(living).info.status == "RUNNING"


def test_a_run_whose_attempt_was_overtaken_is_closed(load_weeks, claim, publish, found):
    [batch_id] = load_weeks(1)
    overtaken = publish(claim(batch_id), finish=False)
    publish(claim(batch_id), finish=False)
    assert found() == [(Mismatch.ABANDONED, overtaken)]


def test_a_finished_run_that_waits_to_be_recorded_is_left_to_be_adopted(load_weeks, claim, publish, found):
    [batch_id] = load_weeks(1)
    publish(claim(batch_id))
    assert found() == []


def test_a_run_of_an_unknown_batch_is_reported_and_left_alone(load_weeks, found, mend, tracking):
    load_weeks(1)
    experiment = tracking.experiment_id(DATASET_EXPERIMENT)
    run = tracking.client.create_run(experiment, tags={"batch_id": "1", "batch_seal": "another"})
    assert found() == [(Mismatch.ORPHANED, run.info.run_id)]
    assert mend() == {Mismatch.ORPHANED: 1}
    assert tracking.client.get_run(run.info.run_id).info.status == "RUNNING"


def test_a_model_that_is_gone_from_the_registry_is_registered_again(
    load_weeks, claim, publish, record, found, mend, state, tracking
):
    [batch_id] = load_weeks(1)
    record(dataset := claim(batch_id), publish(dataset))
    job = claim(batch_id, Stage.TRAINING)
    run_id = publish(job)
    tracking.client.set_tag(run_id, Tag.MODEL_URI, f"runs:/{run_id}/model")
    record(job, run_id, model_version=1)
    assert found(Stage.TRAINING) == [(Mismatch.UNREGISTERED, run_id)]
    mend(Stage.TRAINING)
    assert state(batch_id, Stage.TRAINING) == "waiting"
    assert registry.champion(tracking) is None


def test_the_doctor_names_each_with_its_remedy(
    load_weeks, claim, publish, record, tracking, settings, database, monkeypatch
):
    [batch_id] = load_weeks(1)
    job = claim(batch_id)
    run_id = publish(job)
    record(job, run_id)
    tracking.client.delete_run(run_id)
    login = psycopg.conninfo.conninfo_to_dict(database.conninfo(Role.READER))
    for name, value in environment_for(settings).items():
        monkeypatch.setenv(name, value)
    for name, key in {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}.items():
        monkeypatch.setenv(f"POSTGRES_{name}", str(login[key]))
    diagnosis = CliRunner().invoke(cli.app, ["doctor"])
    assert diagnosis.exit_code == 1
    assert f"error: {Mismatch.MISSING}: week_1 snapshot: run {run_id}" in diagnosis.output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "MLflow cannot be used" in CliRunner().invoke(cli.app, ["doctor"]).output


def test_a_run_that_is_recorded_while_it_is_superseded_is_built_again(
    load_weeks, claim, publish, record, mend, state, session, monkeypatch
):
    """Between the two reads and the repair, another worker adopts the run."""
    [batch_id] = load_weeks(1)
    job = claim(batch_id)
    other, run_id = publish(job), publish(job)
    record(job, run_id)
    supersede = Tracking.supersede

    def adopted_meanwhile(tracking, superseded):
        with session(Stage.SNAPSHOT) as connection:
            connection.execute("select reopen_stage(%s, 'snapshot', %s, 'lost')", [batch_id, run_id])
        record(claim(batch_id), superseded)
        supersede(tracking, superseded)

    monkeypatch.setattr(Tracking, "supersede", adopted_meanwhile)
    assert mend() == {Mismatch.SUPERSEDED: 1}
    assert state(batch_id) == "waiting", other


def test_of_two_finished_runs_the_first_attempt_counts_whatever_the_clocks_said(tracking):
    experiment = tracking.experiment_id(DATASET_EXPERIMENT)
    for attempt, start_time in ((2, 1_000), (1, 2_000), (10, 500)):
        run = tracking.client.create_run(
            experiment, start_time=start_time, run_name="train_week_1", tags={Tag.ATTEMPT: str(attempt)}
        )
        tracking.client.set_terminated(run.info.run_id, "FINISHED")
    assert tracking.finished_run(DATASET_EXPERIMENT, "train_week_1").data.tags[Tag.ATTEMPT] == "1"
