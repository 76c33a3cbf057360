"""Both stages with ENGINE=spark: what they publish is what the local engine publishes, and each engine reads the other's datasets."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
from jobs import claim_job, finish

from db.connect import connect, connect_arrow
from db.database import Role
from listeners.datasets.manifest import MANIFEST
from listeners.snapshot import handle as snapshot
from listeners.snapshot.dataset_digest import identity_of
from listeners.snapshot.drift import find_groups
from listeners.snapshot.local import build as build_locally
from listeners.snapshot.rows import RowsCounter
from listeners.tracking.runs import Tracking
from listeners.training import handle as training
from listeners.training.dataset import fetch, read_training_data
from rakuten.provenance.reproduce import reproduce
from rakuten.provenance.verify import verify
from shared.errors import OutageError, VerificationError
from shared.events import Stage

pytest.importorskip("pyspark")

from listeners.snapshot.spark import engine as snapshot_engine
from listeners.training.spark import engine as training_engine

HANDLES = {Stage.SNAPSHOT: snapshot.handle, Stage.TRAINING: training.handle}


@pytest.fixture
def on_spark(spark, monkeypatch, settings):
    """The settings for Spark. Both stages use the session that all tests share."""
    for engine in (snapshot_engine, training_engine):
        monkeypatch.setattr(engine, "spark_session", lambda _settings, _name: nullcontext(spark))
    return settings.model_copy(update={"engine": "spark", "spark_master": "local[2]"})


@pytest.fixture
def work(database):
    """Do one stage of a batch with these settings, as the listener's child does."""

    def done(stage, batch_id, settings) -> dict:
        job = claim_job(stage, database.conninfo(Role[stage.upper()]), settings, batch_id)
        result = HANDLES[stage](job)
        finish(job, result)
        return result

    return done


@pytest.fixture
def tracking(settings):
    return Tracking(settings)


@pytest.fixture
def locally(database, settings, tmp_path):
    """Digest, drift and summary of the texts of a batch's dataset, by the local engine, without publishing it."""

    def of(batch_id):
        path, counter = tmp_path / f"local_{batch_id}.parquet", RowsCounter()
        conninfo = database.conninfo(Role.SNAPSHOT)
        with (
            connect(conninfo, "test", autocommit=True) as connection,
            connect_arrow(conninfo, "test read") as reader,
        ):
            sample = find_groups(connection, batch_id)

            def collect(rows):
                sample.collect(rows)
                counter.collect(rows)

            build_locally(reader, batch_id, settings.random_seed, path, collect=collect)
        drift = sample.document(seed=settings.random_seed)["drift"]
        return identity_of(path).digest, drift, counter.summary()

    return of


@pytest.fixture
def problems(database, tracking, settings):
    """What `rakuten verify` finds."""

    def found() -> list[str]:
        with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
            checks = list(verify(connection, tracking, settings.snapshots_path))
        return [f"{check.subject}: {check.problem}" for check in checks if check.problem]

    return found


@pytest.fixture
def again(database, tracking):
    """What `rakuten reproduce` says of a batch, with these settings."""

    def reproduced(settings, batch, dataset, model=None):
        runs = tracking.client.get_run(dataset), tracking.client.get_run(model) if model else None
        return list(reproduce(database.conninfo(Role.READER), tracking, settings, batch, runs))

    return reproduced


def summary_of(monkeypatch, work, batch_id, settings):
    """The record of a Spark dataset, and the summary of its texts."""
    summaries, summarise = [], snapshot_engine.summarise

    def noted(spark, written):
        summaries.append(summarise(spark, written))
        return summaries[-1]

    monkeypatch.setattr(snapshot_engine, "summarise", noted)
    return work(Stage.SNAPSHOT, batch_id, settings), summaries[-1]


@pytest.mark.filterwarnings("ignore")  # mlcroissant uses what rdflib calls deprecated
def test_a_week_on_spark_is_published_as_the_local_engine_publishes_it(
    load_weeks, work, on_spark, locally, tracking, problems, tmp_path, monkeypatch
):
    first, second = load_weeks(2)
    work(Stage.SNAPSHOT, first, on_spark)
    record, summary = summary_of(monkeypatch, work, second, on_spark)
    digest, drift, local_summary = locally(second)
    assert record["dataset_digest"] == digest
    assert record["drift"] == drift
    assert drift
    assert summary == local_summary

    run = tracking.client.get_run(record["run_id"])
    assert run.data.params["engine"] == "spark"
    folder = tracking.download(run, "", tmp_path / "artifacts")
    frame = pd.read_parquet(folder / "train_week_2")
    assert len(frame) == record["total_rows"]
    mlcroissant = pytest.importorskip("mlcroissant")
    described = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    assert sum(1 for _ in described.records("products")) == record["total_rows"]
    card = (folder / "card.html").read_text(encoding="utf-8")
    assert "Folder of the files" in card
    assert "Apache Spark 4.3.0, application local-" in card
    assert problems() == []
    part = next(Path(record["dataset_uri"]).glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    [problem] = problems()
    assert part.name in problem
    Path(record["dataset_uri"]).parents[1].rename(tmp_path / "not_mounted")
    with pytest.raises(OutageError, match="is missing"):
        problems()


def test_each_engine_trains_from_the_datasets_of_the_other(load_weeks, work, on_spark, settings, tracking):
    first, second = load_weeks(2)
    work(Stage.SNAPSHOT, first, on_spark)
    work(Stage.SNAPSHOT, second, settings)
    local, by_spark = work(Stage.TRAINING, first, settings), work(Stage.TRAINING, second, on_spark)
    runs = [tracking.client.get_run(result["run_id"]) for result in (local, by_spark)]
    assert [run.data.params["engine"] for run in runs] == ["local", "spark"]
    assert by_spark["f1_score"] > 0.3  # 27 classes
    assert by_spark["suspects"]["count"] >= 0
    assert {entry["feature"] for entry in by_spark["drift"]} == {"unknown words", "confidence"}
    assert not list(Path(on_spark.dataset_store_uri, "training").glob("*"))  # nothing is left in the store


def test_another_trainer_works_in_this_process(load_weeks, work, on_spark, monkeypatch):
    monkeypatch.setattr(training_engine, "spark_session", None)
    from listeners.training.engine import engine_of  # noqa: PLC0415
    from listeners.training.local import fit_model  # noqa: PLC0415

    assert engine_of("spark", "own_trainer") is fit_model
    assert engine_of("spark", "linear_svm") is training_engine.fit_model


def test_a_large_dataset_is_in_the_store_only(load_weeks, work, on_spark, tracking, tmp_path):
    [week] = load_weeks(1)
    record = work(Stage.SNAPSHOT, week, on_spark.model_copy(update={"dataset_upload_limit": 10}))
    run = tracking.client.get_run(record["run_id"])
    assert [file.path for file in tracking.client.list_artifacts(run.info.run_id, "train_week_1")] == [
        f"train_week_1/{MANIFEST}"
    ]
    data = read_training_data(fetch(tracking, run, tmp_path / "fetched"))
    assert int(data.multiplicities.sum()) == record["total_rows"]
    part = next(Path(record["dataset_uri"]).glob("*.parquet"))
    part.unlink()
    with pytest.raises(VerificationError, match=f"{part.name} is missing"):
        fetch(tracking, run, tmp_path / "again")


def test_a_folder_that_somebody_removed_comes_from_mlflow(load_weeks, work, on_spark):
    [week] = load_weeks(1)
    record = work(Stage.SNAPSHOT, week, on_spark)
    shutil.rmtree(record["dataset_uri"])
    assert work(Stage.TRAINING, week, on_spark)["f1_score"] > 0.3


def test_each_engine_reproduces_what_the_other_has_built(load_weeks, work, on_spark, settings, again):
    first, second = load_weeks(2)
    by_spark = [work(stage, first, on_spark)["run_id"] for stage in Stage]
    local = work(Stage.SNAPSHOT, second, settings)["run_id"]
    for verdicts in (
        again(settings, (first, "week_1"), *by_spark),
        again(on_spark, (first, "week_1"), by_spark[0]),
        again(on_spark, (second, "week_2"), local),
    ):
        assert all(verdict.same for verdict in verdicts), verdicts
    steps = [verdict.step for verdict in again(settings, (first, "week_1"), *by_spark)]
    assert steps == ["audit trail", "dataset", "files", "metrics", "parameters"]
    assert not list(Path(on_spark.dataset_store_uri, "reproduced").glob("*"))


def test_a_dataset_that_an_attempt_has_finished_is_adopted(load_weeks, database, on_spark):
    [week] = load_weeks(1)

    def attempt():
        return snapshot.handle(claim_job(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), on_spark, week))

    made = attempt()
    assert attempt() == made
    assert Path(made["dataset_uri"], MANIFEST).exists()
