"""One byte anywhere is found, and named; and what was built can be built again from the audit trail alone."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import mlflow.artifacts
import psycopg
import pytest

from db.connect import connect
from db.database import Role
from listeners.job import Job
from listeners.mlflow_runs import Tracking
from listeners.reproduce import reproduce
from listeners.snapshot import handle as snapshot
from listeners.training import handle as training
from listeners.verify import recorded_stages, verify_batches, verify_stage
from shared.events import Stage


def work(database, settings, batch_id: int, batch_name: str) -> None:
    """Both stages of a batch, as the listeners' children do them."""
    for stage, handle in ((Stage.SNAPSHOT, snapshot.handle), (Stage.TRAINING, training.handle)):
        conninfo = database.conninfo(Role[stage.upper()])
        with connect(conninfo, "test", autocommit=True) as connection:
            claim = "select claim_stage(%s, %s, 'host:1', 'notify', '0 s')"
            [attempt] = connection.execute(claim, [batch_id, stage]).fetchone()
            result = handle(Job(stage, conninfo, settings, "", batch_id, batch_name, attempt))
            connection.execute(
                "select finish_stage(%s, %s, %s, %s)",
                [batch_id, stage, attempt, psycopg.types.json.Jsonb(result)],
            )


@pytest.fixture
def tracking(settings):
    return Tracking(settings)


@pytest.fixture
def changed(database, settings, tracking):
    """What `rakuten verify` names: (batch, subject without run ids)."""

    def look() -> set[tuple[str, str]]:
        with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
            checks = verify_batches(connection)
            for stage in recorded_stages(connection):
                checks += verify_stage(tracking, stage, settings.state_path / "training_snapshots")
        assert all(check.certain for check in checks)
        return {(check.batch_name, check.subject) for check in checks if check.problem is not None}

    return look


@pytest.fixture
def recorded(as_role):
    def read(batch_name: str, stage: Stage) -> dict:
        with as_role(Role.READER) as connection:
            statement = "select metadata #> array[%s, 'result'] from data_loads where batch_name = %s"
            return connection.execute(statement, [stage, batch_name]).fetchone()[0]

    return read


@contextmanager
def one_byte_changed(path: Path):
    before = path.read_bytes()
    middle = len(before) // 2
    path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    try:
        yield
    finally:
        path.write_bytes(before)


def test_whatever_is_changed_is_named_and_nothing_else(
    database, settings, tracking, load_weeks, changed, recorded, as_superuser
):
    for batch_id, name in zip(load_weeks(2), ("week_1", "week_2"), strict=True):
        work(database, settings, batch_id, name)
    assert changed() == set()

    dataset, model = recorded("week_1", Stage.SNAPSHOT), recorded("week_1", Stage.TRAINING)
    dataset_run, model_run = (
        f"{stage} run {run['run_id']}" for stage, run in (("snapshot", dataset), ("training", model))
    )
    artifacts = Path(tracking.client.get_run(dataset["run_id"]).info.artifact_uri.removeprefix("file://"))
    with one_byte_changed(artifacts / "train_week_1.parquet"):
        assert changed() == {("week_1", f"{dataset_run}, train_week_1.parquet")}
    with one_byte_changed(artifacts / "manifest.json"):
        assert ("week_1", f"{dataset_run}, manifest.json") in changed()
    with one_byte_changed(settings.state_path / "training_snapshots" / "train_week_2.parquet"):
        assert changed() == {("week_2", "copy train_week_2.parquet")}
    uri = tracking.client.get_run(model["run_id"]).data.tags["model_uri"]
    logged = Path(mlflow.artifacts.download_artifacts(uri))  # of a local store: the place itself
    with one_byte_changed(logged / "MLmodel"):
        assert changed() == {("week_1", f"{model_run}, model/MLmodel")}

    for name, value in tracking.client.get_run(dataset["run_id"]).data.tags.items():
        if not name.startswith("mlflow."):
            tracking.client.set_tag(dataset["run_id"], name, value + "0")
            assert ("week_1", dataset_run) in changed(), name
            assert {batch for batch, _ in changed()} <= {"week_1"}, name
            tracking.client.set_tag(dataset["run_id"], name, value)
    tracking.client.log_metric(model["run_id"], "f1_score", 0.99)
    assert changed() == {("week_1", model_run)}
    f1_score = model["f1_score"]
    tracking.client.log_metric(model["run_id"], "f1_score", f1_score)
    assert changed() == set()

    holdout = dataset["fixed_sets"]["holdout_df"]["run_id"]
    tracking.client.set_tag(holdout, "note", "somebody was here")
    assert {subject for _, subject in changed()} == {f"holdout_df run {holdout}"}
    tracking.client.delete_tag(holdout, "note")

    with as_superuser() as connection:
        connection.execute("alter table products_history disable trigger all")
        connection.execute(
            "update products_history set designation = designation || '.' where history_id ="
            " (select max(history_id) from products_history where load_batch_id = 2)"
        )
    assert changed() == {("week_2", "seal")}


def test_a_dataset_and_its_model_are_built_again_from_the_audit_trail(
    database, settings, tracking, load_weeks, recorded, as_superuser
):
    [batch_id] = load_weeks(1)
    work(database, settings, batch_id, "week_1")
    shutil.rmtree(settings.state_path / "training_snapshots")
    runs = tuple(tracking.client.get_run(recorded("week_1", stage)["run_id"]) for stage in Stage)

    def verdicts():
        with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
            found = reproduce(connection, tracking, settings, (batch_id, "week_1"), runs)
            return {verdict.step: verdict for verdict in found}

    again = verdicts()
    assert [(step, verdict.same) for step, verdict in again.items()] == [
        ("audit trail", True),
        ("dataset", True),
        ("file in MLflow", True),
        ("metrics", True),
        ("parameters", True),
    ]

    with as_superuser() as connection:
        connection.execute("alter table products_history disable trigger all")
        connection.execute(
            "update products_history set designation = 'x' where history_id = (select min(history_id) from products_history where split = 'train')"
        )
        connection.execute("alter table products_history enable trigger all")
    again = verdicts()
    assert not again["audit trail"].same
    assert (again["dataset"].same, again["dataset"].cause) == (False, "data: the audit trail was changed")
    assert again["file in MLflow"].same
    assert not again["model"].same


def test_a_difference_is_traced_to_the_environment(
    database, settings, tracking, load_weeks, recorded, monkeypatch, tmp_path
):
    [batch_id] = load_weeks(1)
    work(database, settings, batch_id, "week_1")
    runs = tuple(tracking.client.get_run(recorded("week_1", stage)["run_id"]) for stage in Stage)
    environment = json.loads(tracking.download(runs[0], "environment.json", tmp_path).read_text())
    assert environment["packages"]["pyarrow"]
    assert environment["platform"]["python"]
    assert environment["settings"]["random_seed"] == 42
    assert set(environment["code"]) == {"version", "git_commit", "git_dirty"}

    changed = {**environment, "packages": {**environment["packages"], "pyarrow": "99.0"}}
    monkeypatch.setattr("listeners.reproduce.environment", lambda _settings: changed)
    monkeypatch.setattr(
        "listeners.reproduce.build", lambda _connection, _batch, _seed, path: path.write_bytes(b"other")
    )
    with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
        found = list(reproduce(connection, tracking, settings, (batch_id, "week_1"), runs))
    [dataset] = [verdict for verdict in found if verdict.step == "dataset"]
    assert dataset.cause == f"packages: pyarrow was {environment['packages']['pyarrow']}, is 99.0"
