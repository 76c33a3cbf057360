import json
import shutil

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import claim_job
from psycopg.types.json import Jsonb
from structlog.testing import capture_logs

from db.connect import connect_arrow
from db.database import Role
from db.load.correction import correct
from db.source.csv_file import open_csv
from db.source.training_set import LABEL_COLUMNS, PRODUCT_COLUMNS, X_TRAIN, Y_TRAIN, read_training_set
from listeners.job import Job
from listeners.outages import outage_of
from listeners.snapshot import handle as snapshot
from listeners.snapshot import read
from listeners.snapshot.local import build as build_locally
from listeners.snapshot.parquet import SCHEMA
from listeners.snapshot.read import read_batch
from listeners.tracking.runs import Tracking
from shared.errors import FencedError, SourceChangedError
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, Tag


def claimed(database, settings, batch_id: int, week: int) -> Job:
    return claim_job(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), settings, batch_id)


@pytest.fixture
def job_for(database, settings):
    """A claimed job, as the stage's worker hands it to a child."""
    return lambda batch_id, week: claimed(database, settings, batch_id, week)


@pytest.fixture
def arrow_connection(database):
    with connect_arrow(database.conninfo(Role.SNAPSHOT), "test read") as connection:
        yield connection


@pytest.fixture
def tracking(settings):
    return Tracking(settings)


def finished_runs(tracking, name):
    return tracking._runs(DATASET_EXPERIMENT, name, "FINISHED", {})


def test_a_dataset_run_holds_what_the_design_lists(job_for, load_weeks, settings, tracking, tmp_path):
    [batch_id] = load_weeks(1)
    result = snapshot.handle(job_for(batch_id, 1))
    run = tracking.client.get_run(result["run_id"])
    assert (run.info.run_name, run.info.status) == ("train_week_1", "FINISHED")
    assert run.data.params == {
        "week_number": "1",
        "balancing_strategy": "random_oversampling",
        "engine": "local",
        "total_rows": str(result["total_rows"]),
        "random_seed": "42",
        "batch_id": str(batch_id),
    }
    artifacts = {artifact.path for artifact in tracking.client.list_artifacts(run.info.run_id)}
    assert artifacts == {
        "train_week_1.parquet",
        "class_distribution.png",
        "dataset_stats.json",
        "card.html",
        "croissant.json",
        "drift.json",
        "drift_sample.parquet",
        "environment.json",
        "manifest.json",
    }
    assert (run.data.tags["batch_id"], run.data.tags["dataset_sha256"]) == (
        str(batch_id),
        result["dataset_sha256"],
    )
    [dataset] = [entry.dataset for entry in run.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest) == ("train_week_1", result["dataset_digest"][:36])
    stats = json.loads(tracking.download(run, "dataset_stats.json", tmp_path).read_text())
    for code, entry in stats["classes"].items():
        assert run.data.metrics[f"class_{code}_count"] == entry["balanced_rows"]
        assert run.data.metrics[f"class_{code}_source_count"] == entry["source_rows"]
    copy = settings.state_path / "training_snapshots" / "train_week_1.parquet"
    assert copy.read_bytes() == tracking.download(run, "train_week_1.parquet", tmp_path).read_bytes()


def test_a_dataset_is_balanced_and_holds_exactly_its_batch_without_the_holdout(
    job_for, load_weeks, settings, as_role
):
    first, second = load_weeks(2)
    for week, batch_id in ((1, first), (2, second)):
        snapshot.handle(job_for(batch_id, week))
        frame = pd.read_parquet(settings.state_path / "training_snapshots" / f"train_week_{week}.parquet")
        with as_role(Role.READER) as connection:
            rows = connection.execute(
                "select productid, prdtypecode, designation, description from products_as_of_batch(%s) where split = 'train'",
                [batch_id],
            ).fetchall()
        loaded = {row[0]: row[1:] for row in rows}
        assert set(frame["productid"]) == set(loaded)
        assert frame["prdtypecode"].value_counts().agg(np.ptp) == 0
        for row in (
            frame.drop_duplicates("productid").astype(object).where(lambda f: f.notna(), None).itertuples()
        ):
            assert (row.prdtypecode, row.designation, row.description) == loaded[row.productid]


def test_a_weeks_dataset_is_built_on_that_of_the_week_before(
    job_for, load_weeks, settings, as_role, arrow_connection, tracking, tmp_path
):
    first, second = load_weeks(2)
    job = job_for(first, 1)
    result = snapshot.handle(job)
    with as_role(Role.SNAPSHOT, autocommit=True) as connection:
        finished = [first, job.attempt, Jsonb(result)]
        connection.execute("select finish_stage(%s, 'snapshot', %s, %s)", finished)
        with capture_logs() as logs:
            run = tracking.client.get_run(snapshot.handle(job_for(second, 2))["run_id"])
    whole = tmp_path / "whole.parquet"
    stats = build_locally(arrow_connection, second, settings.random_seed, whole)
    [building] = [entry for entry in logs if entry["event"] == "building"]
    assert (building["dataset"], building["built_on"]) == ("train_week_2", "train_week_1")
    assert whole.read_bytes() == tracking.download(run, "train_week_2.parquet", tmp_path).read_bytes()
    counted = {name: run.data.metrics[name] for name in ("distinct_products", "held_out_products")}
    assert counted == {name: stats[name] for name in counted}


def test_a_later_batch_does_not_change_an_earlier_dataset(
    job_for, load_weeks, settings, database, as_superuser
):
    first, _second = load_weeks(2)
    with as_superuser() as connection:
        connection.execute("update products set designation = 'changed since'")
        connection.execute("delete from products where sample_rank < 10")
    snapshot.handle(job_for(first, 1))
    frame = pd.read_parquet(settings.state_path / "training_snapshots" / "train_week_1.parquet")
    assert "changed since" not in set(frame["designation"])
    assert frame["productid"].nunique() > 0


def test_shuffled_source_files_give_the_same_bytes(
    job_for, load_weeks, load_weeks_into, another_database, settings, generated, tmp_path
):
    shuffled = tmp_path / "shuffled"
    shutil.copytree(generated, shuffled)
    for name, columns in ((X_TRAIN, PRODUCT_COLUMNS), (Y_TRAIN, LABEL_COLUMNS)):
        frame = open_csv(generated / name, columns).whole().text.to_pandas()
        frame.sample(frac=1, random_state=len(columns)).to_csv(shuffled / name, index=False)
    others = another_database.settings.model_copy(update={"data_path": shuffled})
    [batch_id] = load_weeks(1)
    [other_id] = load_weeks_into(another_database, others, read_training_set(shuffled, 42, 10), 1)

    snapshot.handle(job_for(batch_id, 1))
    snapshot.handle(claimed(another_database, others, other_id, 1))

    one, other = (
        state / "training_snapshots" / "train_week_1.parquet"
        for state in (settings.state_path, others.state_path)
    )
    assert one.read_bytes() == other.read_bytes()


def test_a_batch_is_read_in_total_order_and_parted_from_its_holdout(
    load_weeks, as_role, arrow_connection, tmp_path
):
    [batch_id] = load_weeks(1)
    rows = read_batch(arrow_connection, batch_id, 50, tmp_path / "rows.arrow")
    with as_role(Role.SNAPSHOT) as connection:
        select = (
            "select productid, designation, description, imageid, image_path, prdtypecode from products_as_of_batch(%s)"
            " where split = %s order by sample_rank nulls last, productid"
        )
        training, held_out = (
            connection.execute(select, [batch_id, split]).fetchall() for split in ("train", "holdout")
        )
    chunks = list(rows.chunks())
    assert all(chunk.schema == SCHEMA for chunk in chunks)
    assert [chunk.num_rows for chunk in chunks[:-1]] == [50] * (len(chunks) - 1)
    assert 1 <= chunks[-1].num_rows <= 50
    assert [tuple(row.values()) for row in pa.concat_tables(chunks).to_pylist()] == training
    assert rows.productids.tolist() == [row[0] for row in training]
    assert rows.labels.tolist() == [row[-1] for row in training]
    assert rows.holdout.tolist() == [row[0] for row in held_out] != []


def test_a_backend_that_is_killed_in_mid_read_is_an_outage_and_the_next_attempt_publishes(
    job_for, load_weeks, tracking, as_superuser, monkeypatch
):
    with as_superuser() as connection:
        # more than the buffers of a socket hold: PostgreSQL still sends when its backend is killed
        connection.execute(
            "insert into products (productid, description) select n, repeat(n::text, 10000) from generate_series(-800, -1) as n"
        )
        connection.execute("insert into labels (productid, prdtypecode) select productid, 10 from products")
    [batch_id] = load_weeks(1)
    stream_rows, killed = read.stream_rows, []

    def kill_after_the_first_rows(*arguments):
        rows = stream_rows(*arguments)
        yield next(rows)
        with as_superuser() as connection:
            killed.extend(
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and application_name = 'rakuten snapshot read'"
                )
            )
        yield from rows

    monkeypatch.setattr(read, "stream_rows", kill_after_the_first_rows)
    with pytest.raises(psycopg.OperationalError) as caught:
        snapshot.handle(job_for(batch_id, 1))
    monkeypatch.setattr(read, "stream_rows", stream_rows)
    assert killed == [(True,)]
    assert "PostgreSQL" in str(outage_of(caught.value))
    assert finished_runs(tracking, "train_week_1") == []
    snapshot.handle(job_for(batch_id, 1))
    assert len(finished_runs(tracking, "train_week_1")) == 1


def test_the_fixed_sets_are_versioned_once(job_for, load_weeks, tracking, settings, tmp_path):
    for week, batch_id in enumerate(load_weeks(2), start=1):
        snapshot.handle(job_for(batch_id, week))
    [test_run], [holdout_run] = finished_runs(tracking, "test_df"), finished_runs(tracking, "holdout_df")
    holdout = pq.read_table(tracking.download(holdout_run, "holdout_df.parquet", tmp_path))
    training_set = read_training_set(settings.data_path, 42, 10)
    assert holdout["productid"].to_pylist() == training_set.holdout()["productid"].to_pylist()
    test = pd.read_parquet(tracking.download(test_run, "test_df.parquet", tmp_path))
    labels = pd.read_csv(settings.data_path / "Y_test.csv", index_col=0)["prdtypecode"]
    assert test.set_index("source_index")["prdtypecode"].to_dict() == labels.to_dict()


def test_the_fixed_sets_do_not_change_when_products_of_theirs_are_corrected(
    database, job_for, load_weeks, settings, as_role, tmp_path
):
    """They come from the source files. Rebuilt from nothing, beside a corrected database, they are the same bytes."""
    [batch_id] = load_weeks(1)
    before = snapshot.handle(job_for(batch_id, 1))["fixed_sets"]
    with as_role(Role.LOADER) as loader:
        held_out = loader.execute(
            "select productid from products where split = 'holdout' order by productid limit 3"
        ).fetchall()
        (retitled,), (relabelled,), (deleted,) = held_out
        path = tmp_path / "correction.csv"
        path.write_text(
            "productid,operation,designation,prdtypecode\n"
            f"{retitled},update,another title,10\n{relabelled},update,a third title,2583\n{deleted},delete,,\n"
        )
        loader.rollback()
        corrected = correct(loader, settings, path).batch_id
    assert corrected is not None
    assert snapshot.handle(job_for(corrected, 1))["fixed_sets"] == before

    elsewhere = settings.model_copy(update={"state_path": tmp_path / "elsewhere"})
    [later] = load_weeks(1)
    rebuilt = snapshot.handle(claimed(database, elsewhere, later, 2))["fixed_sets"]
    runs = Tracking(elsewhere).client
    again = {
        name: runs.get_run(record["run_id"]).data.tags[Tag.DATASET_SHA256] for name, record in rebuilt.items()
    }
    runs = Tracking(settings).client
    first = {
        name: runs.get_run(record["run_id"]).data.tags[Tag.DATASET_SHA256] for name, record in before.items()
    }
    assert again == first


def test_a_published_dataset_is_adopted_and_not_built_again(job_for, load_weeks, tracking):
    [batch_id] = load_weeks(1)
    first = snapshot.handle(job_for(batch_id, 1))  # and then the worker dies before it records anything
    second = snapshot.handle(job_for(batch_id, 1))
    assert second == first
    assert len(finished_runs(tracking, "train_week_1")) == 1


def test_a_fenced_attempt_leaves_no_finished_run(job_for, load_weeks, tracking):
    [batch_id] = load_weeks(1)
    zombie, newer = job_for(batch_id, 1), job_for(batch_id, 1)
    with pytest.raises(FencedError):
        snapshot.handle(zombie)
    assert finished_runs(tracking, "train_week_1") == []
    snapshot.handle(newer)
    assert len(finished_runs(tracking, "train_week_1")) == 1


def test_the_run_of_a_dead_attempt_is_closed(job_for, load_weeks, tracking):
    [batch_id] = load_weeks(1)
    tags = job_for(batch_id, 1).batch.mlflow_tags
    dead = tracking.client.create_run(
        tracking.experiment_id(DATASET_EXPERIMENT), run_name="train_week_1", tags=tags
    )
    snapshot.handle(job_for(batch_id, 1))
    closed = tracking.client.get_run(dead.info.run_id)
    assert (closed.info.status, closed.data.tags["superseded"]) == ("KILLED", "true")


def test_a_run_that_a_later_attempt_superseded_is_not_finished_after_all(job_for, load_weeks, tracking):
    """Its attempt asked for its claim, stalled, and woke up when another had taken over."""
    [batch_id] = load_weeks(1)
    stalled = job_for(batch_id, 1)
    identity = stalled.batch.mlflow_tags
    newer = {}

    def publish_too_late():
        with tracking.publishing(DATASET_EXPERIMENT, "train_week_1", {}, lambda: None, **identity):
            newer.update(snapshot.handle(job_for(batch_id, 1)))

    with pytest.raises(FencedError, match="superseded"):
        publish_too_late()
    [kept] = [run for run in finished_runs(tracking, "train_week_1") if "superseded" not in run.data.tags]
    assert kept.info.run_id == newer["run_id"]
    assert (
        tracking.finished_run(DATASET_EXPERIMENT, "train_week_1", **identity).info.run_id == newer["run_id"]
    )


@pytest.mark.parametrize("changed", [{"holdout_percentage": 30}, {"random_seed": 7}])
def test_a_listener_with_other_settings_than_the_first_load_builds_nothing(
    database, load_weeks, settings, tracking, changed
):
    [batch_id] = load_weeks(1)
    with pytest.raises(SourceChangedError, match="at the first load"):
        snapshot.handle(claimed(database, settings.model_copy(update=changed), batch_id, 1))
    assert finished_runs(tracking, "holdout_df") == finished_runs(tracking, "train_week_1") == []
