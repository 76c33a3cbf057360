"""A dataset that is built on an earlier one has the bytes that it would have without, whatever happened in between."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from db.connect import ArrowConnection, connect_arrow
from db.database import Role
from listeners.snapshot import local
from listeners.snapshot.earlier import find_earlier_dataset
from listeners.snapshot.local import build
from listeners.snapshot.read import stream_rows
from shared.hashing import sha256_of

ROWS_PER_GROUP = 7
CODES = (10, 40, 50)


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch):
    monkeypatch.setattr(local, "PRODUCTS_PER_ROW_GROUP", ROWS_PER_GROUP)


@dataclass
class Built:
    """How a dataset came about."""

    path: Path
    built_on: str | None
    rows_read: int


@dataclass
class Bench:
    """A database whose batches are made with psql, and the datasets of it that are on record."""

    loader: psycopg.Connection[Any]
    snapshot: psycopg.Connection[Any]
    arrow: ArrowConnection
    datasets: Path
    scratch: Path
    batches: int = 0

    def batch(self, *statements: tuple[str, Any]) -> int:
        self.batches += 1
        [batch_id] = self.loader.execute(
            "select claim_batch(%s, %s, %s)", [f"week_{self.batches}", self.batches, json.dumps({})]
        ).fetchone()
        with self.loader.transaction():
            self.loader.execute("select begin_batch(%s)", [batch_id])
            for statement, parameters in statements:
                self.loader.execute(statement, parameters)
        self.loader.execute("select complete_batch(%s)", [batch_id])
        return batch_id

    def build(self, batch_id: int) -> Built:
        """Both ways, which are to agree; what the quicker one gives is put on record."""
        path, whole = self.datasets / f"train_week_{batch_id}.parquet", self.scratch / "whole.parquet"
        build(self.arrow, batch_id, 42, whole)
        fresh = self.scratch / path.name
        earlier = find_earlier_dataset(self.snapshot, batch_id, self.datasets)
        stats = build(self.arrow, batch_id, 42, fresh, earlier)
        assert fresh.read_bytes() == whole.read_bytes()
        fresh.rename(path)
        [attempt] = self.snapshot.execute(
            "select claim_stage(%s, 'snapshot', 'test', 'poll', '0 s')", [batch_id]
        ).fetchone()
        result = {"run_id": "none", "dataset_sha256": sha256_of(path)}
        result["held_out_products"] = stats["held_out_products"]
        self.snapshot.execute(
            "select finish_stage(%s, 'snapshot', %s, %s)", [batch_id, attempt, Jsonb(result)]
        )
        held_out = "select count(*) from products_as_of_batch(%s) where split = 'holdout'"
        assert [stats["held_out_products"]] == list(self.snapshot.execute(held_out, [batch_id]).fetchone())
        read = sum(rows.num_rows for rows in stream_rows(self.arrow, batch_id, earlier))
        return Built(path, earlier.path.stem if earlier else None, read)


@pytest.fixture
def bench(as_role, database, tmp_path):
    datasets, scratch = tmp_path / "datasets", tmp_path / "scratch"
    datasets.mkdir()
    scratch.mkdir()
    with (
        as_role(Role.LOADER, autocommit=True) as loader,
        as_role(Role.SNAPSHOT, autocommit=True) as connection,
        connect_arrow(database.conninfo(Role.SNAPSHOT), "test read") as arrow,
    ):
        yield Bench(loader, connection, arrow, datasets, scratch)


def added(first: int, count: int, split: str = "train") -> list[tuple[str, Any]]:
    """New products with their labels. Their ranks are ten times their productids."""
    span = {"first": first, "last": first + count - 1, "split": split, "codes": list(CODES)}
    products = (
        "insert into products (productid, designation, description, imageid, image_path, sample_rank, split)"
        " select n, 'title ' || n %% 5, nullif('text ' || n %% 3, 'text 0'), n, 'image_' || n, 10 * n, %(split)s"
        " from generate_series(%(first)s::integer, %(last)s) as n"
    )
    labels = (
        "insert into labels (productid, prdtypecode)"
        " select n, (%(codes)s::integer[])[1 + n %% 3] from generate_series(%(first)s::integer, %(last)s) as n"
    )
    return [(products, span), (labels, span)]


@pytest.mark.parametrize("before", [1, ROWS_PER_GROUP - 1, ROWS_PER_GROUP, 3 * ROWS_PER_GROUP, 23])
@pytest.mark.parametrize("new", [0, 1, ROWS_PER_GROUP, 30])
def test_of_a_week_of_new_products_only_these_are_read(bench, before, new):
    first = bench.build(bench.batch(*added(1, before), *added(500, 2, "holdout")))
    assert (first.built_on, first.rows_read) == (None, before + 2)
    second = bench.build(bench.batch(*added(before + 1, new), *added(600, 3, "holdout")))
    assert (second.built_on, second.rows_read) == ("train_week_1", new + 3)


def test_weeks_without_a_dataset_are_read_along(bench):
    bench.build(bench.batch(*added(1, 20)))
    bench.batch(*added(21, 4))
    third = bench.build(bench.batch(*added(25, 4)))
    assert (third.built_on, third.rows_read) == ("train_week_1", 8)


INSERT = "insert into products (productid, designation, sample_rank) values (%s, 'new', %s)"
LABEL = "insert into labels (productid, prdtypecode) values (%s, 10)"
WHAT_ELSE_MAY_HAPPEN = {
    "a title is corrected": [("update products set designation = 'corrected' where productid = 5", None)],
    "a label is corrected": [("update labels set prdtypecode = 60 where productid = 5", None)],
    "a product is held out": [("update products set split = 'holdout' where productid = 5", None)],
    "a product is deleted": [("delete from products where productid = 5", None)],
    "a label is deleted": [("delete from labels where productid = 5", None)],
    "another productid": [("update products set productid = 777 where productid = 20", None)],
    "deleted and inserted again": [("delete from products where productid = 5", None), (INSERT, [5, 50])],
    "a rank in between": [(INSERT, [900, 55]), (LABEL, [900])],
    "the rank of the last": [(INSERT, [900, 200]), (LABEL, [900])],
    "no rank": [(INSERT, [900, None]), (LABEL, [900])],
    "no label": [(INSERT, [900, 9000])],
    "a label for an older product": [(LABEL, [30])],
    "a label before its product": [(LABEL, [901])],
    "a product that was waited for": [(INSERT, [31, 310])],
    "a label instead of its product": [("delete from products where productid = 30", None), (LABEL, [30])],
    "a label for a product that was held out": [
        ("update products set split = 'holdout' where productid = 30", None),
        (LABEL, [30]),
    ],
}


@pytest.mark.parametrize("what", WHAT_ELSE_MAY_HAPPEN)
def test_whatever_else_happened_the_batch_is_read_as_a_whole_and_built_on_again(bench, what):
    bench.build(bench.batch(*added(1, 20), (INSERT, [30, 300]), (LABEL, [31])))
    changed = bench.build(bench.batch(*added(40, 3), *WHAT_ELSE_MAY_HAPPEN[what]))
    assert changed.built_on is None
    after = bench.build(bench.batch(*added(1000, 3)))
    assert after.built_on == (None if what == "no rank" else "train_week_2")


def test_what_happened_later_to_the_last_product_of_the_earlier_dataset_does_not_mislead(bench):
    """Its rank then is asked for by its productid, which by now may be another's, of another rank."""
    bench.build(bench.batch(*added(1, 20)))
    second = bench.batch((INSERT, [900, 195]), (LABEL, [900]))
    bench.batch(
        ("delete from products where productid = 20", None),
        ("update products set productid = 20 where productid = 3", None),
    )
    assert bench.build(second).built_on is None


@pytest.mark.parametrize("how", ["missing", "another file"])
def test_a_copy_that_is_not_the_one_on_record_is_not_built_on(bench, how):
    first = bench.build(bench.batch(*added(1, 20)))
    if how == "missing":
        first.path.unlink()
    else:
        shutil.copyfile(bench.build(bench.batch(*added(21, 1))).path, first.path)
        bench.datasets.joinpath("train_week_2.parquet").write_bytes(b"not a dataset")
    assert bench.build(bench.batch(*added(30, 2))).built_on is None


def test_a_dataset_of_other_row_groups_is_built_on_too(bench, monkeypatch):
    bench.build(bench.batch(*added(1, 20)))
    monkeypatch.setattr(local, "PRODUCTS_PER_ROW_GROUP", ROWS_PER_GROUP + 1)
    assert bench.build(bench.batch(*added(21, 2))).built_on == "train_week_1"


def _something(random_numbers: random.Random, number: int) -> list[tuple[str, Any]]:
    """Mostly new products behind all others; else whatever comes to a mind at psql."""
    first = 100 * number
    new = [
        *added(first, random_numbers.randint(0, 9)),
        *added(first + 50, random_numbers.randint(0, 2), "holdout"),
    ]
    if random_numbers.random() < 0.6:
        return new
    old = first - 100 + random_numbers.randint(0, 5)
    any_of = [
        ("update products set designation = designation || '!' where productid = %s", [old]),
        ("update products set split = 'holdout' where productid = %s", [old]),
        ("update products set productid = -productid where productid = %s", [old]),
        ("update labels set prdtypecode = 60 where productid = %s", [old]),
        ("delete from labels where productid = %s", [old]),
        ("delete from products where productid = %s", [old]),
        (f"{INSERT} on conflict do nothing", [old, 10 * old]),
        (
            f"{INSERT} on conflict do nothing",
            [old + 70, random_numbers.choice([None, 10 * old, 10 * first + 1])],
        ),
        (f"{LABEL} on conflict do nothing", [first + random_numbers.randint(0, 200)]),
    ]
    return new + random_numbers.sample(any_of, 2)


@pytest.mark.parametrize("seed", range(6))
def test_any_history_gives_the_same_bytes_either_way(bench, seed):
    random_numbers, built = random.Random(seed), []
    bench.build(bench.batch(*added(1, 30)))
    for number in range(1, 12):
        batch_id = bench.batch(*_something(random_numbers, number))
        if random_numbers.random() < 0.8:
            built.append(bench.build(batch_id).built_on)
    assert any(built)
    assert None in built
