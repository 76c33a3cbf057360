"""A dataset that Spark builds is the one that the local engine builds from the same batch."""

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pyarrow.parquet as pq
import pytest
from corrections import some
from jobs import claim_job, finish
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from structlog.testing import capture_logs
from waiting import eventually

from db.connect import connect_arrow
from db.database import Role
from listeners.datasets.manifest import MANIFEST, Manifest
from listeners.datasets.store import Store
from listeners.snapshot.dataset_digest import identity_of, prove
from listeners.snapshot.local import build as build_locally
from shared.errors import DatabaseUnavailableError, FencedError, OutageError, StageError, VerificationError
from shared.events import Stage

pytest.importorskip("pyspark")

from listeners.snapshot.spark.build import Order, build
from listeners.snapshot.spark.read import Source, Watermarks, read_batch
from listeners.spark.errors import translate_errors

EXTREME = (-(2**63), -7, 0, 2**63 - 1)


@pytest.fixture
def order(database, tmp_path):
    """How to build a batch's dataset: files of 64 history ids, so that few rows make many files."""

    def of(batch_id: int, **changes) -> Order:
        source = Source(database.conninfo(Role.SNAPSHOT), 2)
        folder = Store(str(tmp_path / "store" / f"batch_{batch_id}"))
        made = Order("train_week", batch_id, 42, source, folder, 1, lambda: None, entries_per_part=64)
        return replace(made, **changes)

    return of


@pytest.fixture
def local(database, tmp_path):
    """The local engine's statistics, file and digest of a batch."""

    def of(batch_id: int):
        path = tmp_path / f"local_{batch_id}.parquet"
        with connect_arrow(database.conninfo(Role.SNAPSHOT), "test read") as connection:
            stats = build_locally(connection, batch_id, 42, path)
        return stats, path, identity_of(path).digest

    return of


@pytest.fixture
def corrected(load_weeks, loader, apply, as_role) -> list[int]:
    """Two weeks and a correction: products with other texts, null texts, other labels, none, extreme ids, and deleted ones."""
    batches = load_weeks(1)
    relabelled, retold, emptied, unlabelled, deleted, again, held = some(loader, "train", 7)
    batches += load_weeks(1)
    with as_role(Role.OWNER) as owner:
        for number, productid in enumerate(EXTREME):
            rank = 2**62 + number
            owner.execute(
                "insert into products (productid, designation, imageid, sample_rank, split) values (%s, %s, 1, %s, 'train')",
                [productid, "Zyx 'élan' \U0001f600", rank],
            )
            owner.execute("insert into labels (productid, prdtypecode) values (%s, 10)", [productid])
        owner.execute(
            "update products set description = null, designation = '' where productid = %s", [emptied]
        )
        owner.execute("delete from labels where productid = %s", [unlabelled])
        owner.execute("update products set split = 'holdout' where productid = %s", [held])
        owner.execute("delete from products where productid = %s", [again])
    header = "productid,operation,designation,prdtypecode"
    last = apply(
        header,
        (relabelled, "update", "Zyx-Lampe 77", 2583),
        (retold, "update", "Zyx-Lampe 78", 10),
        (deleted, "delete", "", ""),
    )
    return [*batches, last.batch_id]


def rows_of(paths) -> Counter:
    """Each distinct row of parquet files, with its number of copies."""
    frame = pd.concat([pq.read_table(path).to_pandas() for path in paths])
    return Counter(map(tuple, frame.astype(object).where(frame.notna(), None).itertuples(index=False)))


def files(built) -> list[Path]:
    return [Path(built.folder.uri) / part.name for part in built.manifest.parts]


def test_it_has_the_same_rows_copies_statistics_and_digest(spark, order, local, corrected):
    for batch_id in (corrected[0], corrected[-1]):
        stats, path, digest = local(batch_id)
        built = build(spark, order(batch_id))
        assert built.manifest.dataset_digest == digest
        assert built.stats == stats
        assert list(built.stats["classes"]) == list(stats["classes"])
        assert rows_of(files(built)) == rows_of([path])
    assert len(files(built)) > 3
    assert identity_of(Path(built.folder.uri)).digest == digest
    assert prove(Path(built.folder.uri), EXTREME[0]).verify(digest)
    assert set(EXTREME) <= {row[0] for row in rows_of(files(built))}
    frame = pd.read_parquet(built.folder.uri, columns=["productid"])  # any reader reads the folder as a whole
    assert len(frame) == built.manifest.rows == built.stats["total_rows"]
    assert (np.diff(np.flatnonzero(np.diff(frame["productid"], prepend=-1))) > 0).all()
    assert (
        frame["productid"].ne(frame["productid"].shift()).sum() == built.manifest.products
    )  # copies are adjacent


def test_texts_come_from_the_earlier_dataset_where_it_has_them_and_the_bytes_are_the_same(
    spark, order, load_weeks, database, settings
):
    first, second = load_weeks(2)
    job = claim_job(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), settings, first)
    earlier = build(spark, order(first))
    recorded = {"run_id": "r", "dataset": "train_week_1", "dataset_sha256": earlier.manifest.sha256}
    finish(job, recorded | {"dataset_uri": earlier.folder.uri})
    damaged = Path(earlier.folder.uri) / earlier.manifest.parts[0].name
    damaged.write_bytes(b"not parquet")
    with capture_logs() as logs:
        built = build(spark, order(second))
    [log] = [log for log in logs if log["event"] == "files written"]
    # one file is damaged, and the last one of week 1 has ended within a range of history ids
    assert log["texts_of_earlier_dataset"] == len(earlier.manifest.parts) - 2
    assert log["texts_of_earlier_dataset"] + log["texts_of_postgresql"] == len(built.manifest.parts)
    fresh = build(spark, order(second, attempt=2, use_earlier=False))
    assert built.manifest == fresh.manifest


def test_a_lost_claim_commits_nothing_and_dead_attempts_are_removed(spark, order, load_weeks):
    [batch_id] = load_weeks(1)
    made = order(batch_id, attempt=5)
    dead = made.folder.folder("attempt-000003")
    dead.create()
    dead.write("part-000000.parquet", b"half a file")

    def lose():
        raise FencedError("lost")

    with pytest.raises(FencedError):
        build(spark, replace(made, require_claim=lose))
    assert made.folder.folders() == []
    built = build(spark, replace(made, attempt=6))
    assert made.folder.folders() == ["attempt-000006"]
    assert Manifest.read(built.folder, built.manifest.sha256) == built.manifest
    built.manifest.require_unchanged(built.folder)
    built.folder.write(built.manifest.parts[1].name, b"changed")
    with pytest.raises(VerificationError, match=built.manifest.parts[1].name):
        built.manifest.require_unchanged(built.folder)
    built.folder.write(MANIFEST, b"{}")
    with pytest.raises(VerificationError, match="SHA-256"):
        Manifest.read(built.folder, built.manifest.sha256)


def test_a_batch_without_training_rows_gets_no_dataset(spark, order, load_weeks, as_role, apply, loader):
    load_weeks(1)
    [productid] = some(loader, "holdout")
    with as_role(Role.OWNER) as owner:
        owner.execute(
            "delete from labels where productid in (select productid from products where split = 'train')"
        )
    result = apply("productid,imageid", (productid, 77))
    with pytest.raises(StageError, match="no labelled training rows"):
        build(spark, order(result.batch_id))


def test_a_password_is_in_no_plan_event_log_setting_or_error_of_spark(spark, order, load_weeks, database):
    [batch_id] = load_weeks(1)
    conninfo = database.conninfo(Role.SNAPSHOT)
    password = conninfo_to_dict(conninfo)["password"]
    assert len(password) > 8
    made = order(batch_id)
    build(spark, made)
    shown = [repr(made), *map(str, spark.sparkContext.getConf().getAll())]
    [log] = Path(spark.conf.get("spark.eventLog.dir")).rglob("events_*")
    eventually(lambda: "MapInArrow" in log.read_text())
    shown.append(log.read_text())  # it has the plan of each query
    wrong = make_conninfo(conninfo, dbname="no_such_database")
    with pytest.raises(DatabaseUnavailableError, match="no_such_database") as failed:
        build(spark, order(batch_id, source=Source(wrong, 2)))
    shown.append(str(failed.value))
    with pytest.raises(OutageError, match="no_such_database") as failed, translate_errors():
        read_batch(spark, Source(wrong, 2), Watermarks(9, 9)).training.count()
    shown.append(str(failed.value))
    assert not [text[:200] for text in shown if password in text]


def test_no_more_tasks_read_at_once_than_the_setting_allows(spark, order, load_weeks, database, server):
    [batch_id] = load_weeks(1)
    seen, done = [0], threading.Event()

    def watch():
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            while not done.is_set():
                statement = (
                    "select count(*) from pg_stat_activity where application_name = 'rakuten snapshot task'"
                )
                seen.append(connection.execute(statement).fetchone()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        build(spark, order(batch_id, source=Source(database.conninfo(Role.SNAPSHOT), 1), use_earlier=False))
    finally:
        done.set()
        watcher.join()
    assert (
        max(seen) <= 2
    )  # one connection, and that with which ADBC reads the data types while the first one is made
