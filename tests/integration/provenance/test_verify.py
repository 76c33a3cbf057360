"""One byte anywhere is found, and named; and what was built can be built again from the audit trail alone."""

import json
import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow.artifacts
import pytest
from jobs import claim_job, finish
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from psycopg.types.json import Jsonb
from stage_work import work_on

from db.connect import connect
from db.database import Role
from listeners import reconcile
from listeners.job import Task
from listeners.snapshot import handle as snapshot
from listeners.snapshot.local import build
from listeners.tracking.environment import differences
from listeners.tracking.runs import Tracking
from rakuten.provenance.checks import Cause
from rakuten.provenance.reproduce import Verdict, reproduce
from rakuten.provenance.verify import verify
from shared.errors import OutageError, StageError
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT


@pytest.fixture
def tracking(settings):
    return Tracking(settings)


@pytest.fixture
def changed(database, settings, tracking):
    """What `rakuten verify` names: (batch, subject without run ids)."""

    def look(cause=Cause.CHANGED) -> set[tuple[str, str]]:
        with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
            checks = list(verify(connection, tracking, settings.state_path / "training_snapshots"))
        return {
            (check.batch_name, check.subject)
            for check in checks
            if check.problem is not None and check.cause is cause
        }

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
    for batch_id in load_weeks(2):
        work_on(database, settings, batch_id)
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

    for run_id, subject in ((dataset["run_id"], dataset_run), (model["run_id"], model_run)):
        for name, value in tracking.client.get_run(run_id).data.tags.items():
            tracking.client.set_tag(run_id, name, value + "0")
            found = changed()
            if name == MLFLOW_RUN_NOTE:  # the description, which people may edit
                assert found == set()
                continue
            assert ("week_1", subject) in found, name
            assert {batch for batch, _ in found if not batch.endswith("_week_1")} == {"week_1"}, name
            tracking.client.set_tag(run_id, name, value)
    tracking.client.set_model_version_tag("rakuten_classifier", str(model["model_version"]), "batch_id", "77")
    assert changed() == {("week_1", f"{model_run}, version {model['model_version']}")}
    tracking.client.set_model_version_tag("rakuten_classifier", str(model["model_version"]), "batch_id", "1")
    verdict = Path(tracking.client.get_run(model["run_id"]).info.artifact_uri.removeprefix("file://"))
    with one_byte_changed(verdict / "promotion.json"):
        assert changed() == {("week_1", f"{model_run}, promotion.json")}
    tracking.client.log_metric(model["run_id"], "f1_score", 0.99, step=1)
    assert changed() == {("week_1", model_run)}
    f1_score = model["f1_score"]
    tracking.client.log_metric(model["run_id"], "f1_score", f1_score, step=1)
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
    assert ("", "trigger products_history._000_append_only") in changed()
    database.upgrade()
    assert changed() == {("week_2", "seal"), ("", "products")}


def test_batches_that_were_taken_away_leave_runs_that_tell(
    database, settings, tracking, load_weeks, changed, recorded, as_superuser
):
    for batch_id in load_weeks(2):
        work_on(database, settings, batch_id)
    last = {
        (name, f"run {recorded('week_2', stage)['run_id']}")
        for stage, name in ((Stage.SNAPSHOT, "train_week_2"), (Stage.TRAINING, "model_week_2"))
    }
    with as_superuser() as connection:
        for table in ("products", "labels", "products_history", "labels_history", "data_loads"):
            connection.execute(f"alter table {table} disable trigger all")
        for table, key in (("products", "product_id"), ("labels", "label_id")):
            connection.execute(
                f"delete from {table} where id in (select {key} from {table}_history where load_batch_id = 2)"
            )
            connection.execute(f"delete from {table}_history where load_batch_id = 2")
        connection.execute("delete from data_loads where id = 2")
    database.upgrade()
    assert changed(Cause.ORPHANED) == last | {("", "alias champion of rakuten_classifier")} or (
        changed(Cause.ORPHANED) == last  # the model of week 2 was not promoted
    )
    assert {subject for _, subject in changed()} <= {"champions of rakuten_classifier"}


def test_a_dataset_that_was_lost_and_built_again_is_no_change(
    database, settings, tracking, load_weeks, changed, recorded
):
    [batch_id] = load_weeks(1)
    work_on(database, settings, batch_id)
    tracking.client.delete_run(recorded("week_1", Stage.SNAPSHOT)["run_id"])
    conninfo = database.conninfo(Role.SNAPSHOT)
    reconcile.handle(Task(Stage.SNAPSHOT, conninfo, settings, "listeners.reconcile"))
    assert changed() == set()
    assert len(changed(Cause.UNKNOWN)) == 1
    job = claim_job(Stage.SNAPSHOT, conninfo, settings, batch_id)
    finish(job, snapshot.handle(job))
    assert changed() == set()


def test_an_mlflow_that_is_away_is_no_change(database, settings, tracking, load_weeks, changed, monkeypatch):
    [batch_id] = load_weeks(1)
    work_on(database, settings, batch_id)

    def fail(_tracking, _run, artifact, _directory):
        raise StageError(f"artifact {artifact} cannot be read") from ConnectionRefusedError("refused")

    monkeypatch.setattr(Tracking, "download", fail)
    with pytest.raises(OutageError, match="a connection was lost"):
        changed()


def test_a_dataset_and_its_model_are_built_again_from_the_audit_trail(
    database, settings, tracking, load_weeks, recorded, as_superuser
):
    [batch_id] = load_weeks(1)
    work_on(database, settings, batch_id)
    shutil.rmtree(settings.state_path / "training_snapshots")
    runs = tuple(tracking.client.get_run(recorded("week_1", stage)["run_id"]) for stage in Stage)

    def verdicts():
        found = reproduce(database.conninfo(Role.READER), tracking, settings, (batch_id, "week_1"), runs)
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
    work_on(database, settings, batch_id)
    runs = tuple(tracking.client.get_run(recorded("week_1", stage)["run_id"]) for stage in Stage)
    environment = json.loads(tracking.download(runs[0], "environment.json", tmp_path).read_text())
    assert environment["packages"]["pyarrow"]
    assert environment["platform"]["python"]
    assert environment["settings"]["random_seed"] == 42
    assert set(environment["code"]) == {"version", "git_commit", "git_dirty", "git_diff_sha256"}

    changed = {**environment, "packages": {**environment["packages"], "pyarrow": "99.0"}}
    monkeypatch.setattr("rakuten.provenance.reproduce.environment", lambda _settings: changed)
    monkeypatch.setattr(
        "rakuten.provenance.reproduce.build",
        lambda connection, batch, seed, path: build(connection, batch, seed + 1, path),
    )
    found = list(reproduce(database.conninfo(Role.READER), tracking, settings, (batch_id, "week_1"), runs))
    [dataset] = [verdict for verdict in found if verdict.step == "dataset"]
    assert dataset.cause == f"packages: pyarrow was {environment['packages']['pyarrow']}, is 99.0"


def test_what_decides_results_is_named_first_and_what_is_not_read_is_not_named():
    names = ["aiopg", "alembic", "mlflow-skinny", "numpy", "pyarrow", "scikit-learn", "zope"]
    then, now = (
        {
            "settings": {"holdout_percentage": number},
            "code": {"git_commit": number},
            "packages": dict.fromkeys(names, number),
            "platform": {"python": number},
        }
        for number in (1, 2)
    )
    assert [line.split()[1] for line in differences(then, now)] == [
        *("pyarrow", "numpy", "scikit-learn", "mlflow-skinny"),
        *("git_commit", "python", "aiopg", "alembic", "zope"),
    ]


@pytest.fixture
def built(database, settings, tracking, load_weeks, recorded):
    """Week 1 with its dataset and its model, their runs, and the verdicts of building it again by what MLflow says now."""
    [batch_id] = load_weeks(1)
    work_on(database, settings, batch_id)

    class Built:
        run_ids = tuple(recorded("week_1", stage)["run_id"] for stage in Stage)

        def again(self, change=lambda run: run) -> dict[str, Verdict]:
            runs = tuple(change(tracking.run(run_id)) for run_id in self.run_ids)
            found = reproduce(database.conninfo(Role.READER), tracking, settings, (batch_id, "week_1"), runs)
            return {verdict.step: verdict for verdict in found}

    return Built()


def test_a_moved_alias_a_score_in_postgresql_and_a_label_are_noticed(
    built, tracking, changed, database, as_superuser
):
    runs = {stage: f"{stage} run {run_id}" for stage, run_id in zip(Stage, built.run_ids, strict=True)}
    version = int(tracking.client.get_model_version_by_alias("rakuten_classifier", "champion").version)
    source = tracking.client.get_run(built.run_ids[0]).info.artifact_uri
    foreign = tracking.client.create_model_version("rakuten_classifier", source, run_id=None).version
    tracking.client.set_registered_model_alias("rakuten_classifier", "champion", foreign)
    assert changed() == {("", "alias champion of rakuten_classifier")}
    tracking.client.set_registered_model_alias("rakuten_classifier", "champion", version)
    for stage, key in (("training", "f1_score"), ("training", "accuracy"), ("snapshot", "total_rows")):
        with (
            as_superuser() as connection
        ):  # whoever knows the code can also make the digest of the record anew
            statement = """
                update data_loads
                set metadata = jsonb_set(metadata, array[%(stage)s], with_digest(
                    jsonb_set(metadata -> %(stage)s, array['result', %(key)s], '0.5')
                ))
                where id = 1
            """
            [(before,)] = connection.execute("select metadata from data_loads where id = 1").fetchall()
            connection.execute(statement, {"stage": stage, "key": key})
        assert changed() == {("week_1", runs[stage])}, key
        with as_superuser() as connection:
            connection.execute("update data_loads set metadata = %s where id = 1", [Jsonb(before)])
    with as_superuser() as connection:
        connection.execute("alter table labels disable trigger all")
        connection.execute("update labels set prdtypecode = prdtypecode + 1 where id = 3")
    database.upgrade()
    assert changed() == {("", "labels")}
    with as_superuser() as connection:
        connection.execute("alter table labels disable trigger all")
        connection.execute("update labels set prdtypecode = prdtypecode - 1 where id = 3")
    database.upgrade()
    assert changed() == set()


def test_a_model_is_built_again_though_mlflow_lost_the_dataset_and_what_is_said_of_it(
    built, tracking, settings, rakuten_as, database
):
    rakuten = rakuten_as(database.conninfo(Role.READER), settings)
    dataset, model = built.run_ids
    removed = [(dataset, "dataset_sha256"), (model, "source_sha256")]
    removed += [(run_id, "batch_seal") for run_id in built.run_ids]
    for run_id, tag in removed:
        tracking.client.delete_tag(run_id, tag)
    tracking.client.set_tag(dataset, "batch_id", "no number")
    tracking.client.delete_tag(model, "dataset_run_id")
    artifacts = Path(tracking.client.get_run(dataset).info.artifact_uri.removeprefix("file://"))
    (artifacts / "train_week_1.parquet").unlink()

    for name in (dataset, model):  # PostgreSQL knows whose they are, whatever the tags say
        document = json.loads(rakuten("lineage", name, "--json").output)
        assert document["batches"][-1]["batch_name"] == "week_1"
        assert document["reference"]["kind"] == ("dataset" if name == dataset else "model")
        verdicts = json.loads(rakuten("reproduce", name, "--json").output)
        assert [(verdict["step"], verdict["same"]) for verdict in verdicts] == [
            ("audit trail", True),
            ("dataset", False),
            ("file in MLflow", False),
            ("metrics", True),
            ("parameters", True),
        ]
        assert verdicts[1]["detail"] == "its run has no tag dataset_sha256 to compare with"
        assert verdicts[1]["cause"].startswith("data: changed in MLflow")
    refused = rakuten("prove", "--product", "1", "--dataset", "week_1").exception
    assert "has no tag dataset_sha256" in str(refused)

    holdout = tracking.finished_run(DATASET_EXPERIMENT, "holdout_df")
    tracking.client.delete_run(holdout.info.run_id)
    verdicts = built.again()
    assert (verdicts["metrics"].same, verdicts["parameters"].same) == (False, True)
    assert "no finished run holdout_df" in verdicts["metrics"].detail


def test_a_changed_seed_is_named_as_the_cause(built, tmp_path):
    def with_another_seed(run):
        run.data.params["random_seed"] = (
            "43"  # as a statement in MLflow's database would make it: its API refuses
        )
        return run

    verdicts = built.again(with_another_seed)
    cause = "data: the run's param random_seed is 43, its environment.json says 42"
    assert (verdicts["dataset"].same, verdicts["dataset"].cause) == (False, cause)


def test_a_run_that_is_gone_is_said_to_be(built, tracking, database, settings, rakuten_as):
    rakuten = rakuten_as(database.conninfo(Role.READER), settings)
    with closing(sqlite3.connect(settings.state_path / "mlflow" / "mlflow.db")) as store, store:
        store.execute("pragma foreign_keys = off")
        store.execute("delete from runs where run_uuid = ?", [built.run_ids[0]])
    for command in (["reproduce", "week_1"], ["prove", "--product", "1", "--dataset", "week_1"]):
        assert f"MLflow has no run {built.run_ids[0]}" in str(rakuten(*command).exception)
