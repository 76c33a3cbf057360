"""Whatever the source files hold, and whatever fails on the way: a week is in PostgreSQL whole, or not at all."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from unittest.mock import patch

import csv_sources
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pytest
from csv_reference import read
from csv_sources import X_TEST, X_TRAIN, Y_TEST, Y_TRAIN
from fuzzing import count, inputs
from hypothesis import given
from hypothesis import strategies as st

from db.database import Role
from db.load import send_rows, writing
from db.load.writing import Connection
from db.source import csv_file
from db.source.training_set import read_training_set
from rakuten.commands.load import load_week
from shared.config import Settings, target_rows
from shared.errors import BadInputError, LoadError

PRODUCT = ["productid", "designation", "description", "imageid", "sample_rank", "split"]
LABEL = ["productid", "prdtypecode"]
TABLES = {"labels": LABEL, "products": PRODUCT, "labels_history": LABEL, "products_history": PRODUCT}
BATCHES = {"data_loads": ["status", "total_rows"]}
STATEMENTS = ("load/copy_products", "load/copy_labels")


@pytest.fixture
def loader(as_role):
    with as_role(Role.LOADER) as connection:
        yield connection


@pytest.fixture
def empty(as_superuser) -> Iterator[Callable[[], object]]:
    """Empty the tables: one database serves all inputs of a test, so what keeps the history from being rewritten is off."""
    with as_superuser(autocommit=True) as superuser:
        keepers = superuser.execute(
            "select tgrelid::regclass, tgname from pg_trigger where tgfoid = 'internal.refuse_rewriting_history'::regproc"
        )
        for table, trigger in keepers.fetchall():
            superuser.execute(f"alter table {table} disable trigger {trigger}")
        yield lambda: superuser.execute("; ".join(f"delete from {table}" for table in TABLES | BATCHES))


def held(connection: psycopg.Connection) -> dict[str, list[tuple]]:
    """The rows of every table, and how each batch stands."""
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    found = {
        table: connection.execute(f"select {', '.join(columns)} from {table} order by 1").fetchall()
        for table, columns in (TABLES | BATCHES).items()
    }
    connection.rollback()
    return found


def whole(rows: pa.Table) -> dict[str, list[tuple]]:
    """What is held after a first week of these rows."""
    rows = rows.sort_by("productid")
    found = {table: rows.select(columns).to_pylist() for table, columns in TABLES.items()}
    tuples = {table: [tuple(row.values()) for row in rows] for table, rows in found.items()}
    return tuples | {"data_loads": [("completed", rows.num_rows)]}


def nothing(*batches: str) -> dict[str, list[tuple]]:
    return {table: [] for table in TABLES} | {"data_loads": [(status, 0) for status in batches]}


@contextmanager
def failing_at(statement: str | None) -> Iterator[None]:
    """The disk is full when this statement is to run."""
    original = send_rows.copy_rows

    def copy_rows(connection: Connection, name: str, tables: Iterable[pa.Table]) -> int:
        if name == statement:
            raise psycopg.errors.DiskFull("disk full")
        return original(connection, name, tables)

    with patch.object(send_rows, "copy_rows", copy_rows):
        yield


def load_first_week(connection: psycopg.Connection, settings: Settings) -> dict[str, list[tuple]]:
    """As `rakuten load` does it; returns what PostgreSQL is to hold then."""
    training_set = read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)
    load_week(connection, settings, training_set)
    return whole(training_set.rows(0, target_rows(training_set.total_rows, settings.initial_percentage)))


@inputs(short=60, long=2_000)
@given(
    files=csv_sources.structured | csv_sources.structured | csv_sources.bytewise | csv_sources.raw_fields(),
    percentage=st.sampled_from([100, 40]),
    fails_at=st.sampled_from([None, None, None, *STATEMENTS]),
)
def test_a_week_is_loaded_whole_or_not_at_all(
    database, loader, empty, directory, files, percentage, fails_at
):
    empty()
    csv_sources.write(directory, files)
    settings = database.settings.model_copy(
        update={"data_path": directory, "initial_percentage": Decimal(percentage)}
    )
    pairs = [(X_TRAIN, Y_TRAIN), (X_TEST, Y_TEST if Y_TEST in files else None)]
    good = all(isinstance(read(files, *pair), list) for pair in pairs)
    try:
        with failing_at(fails_at):
            expected, outcome = load_first_week(loader, settings), "loaded"
    except BadInputError:
        expected, outcome = nothing(), "refused"
    except LoadError:
        expected, outcome = nothing("failed"), "failed"
    assert outcome == ("refused" if not good else "failed" if fails_at else "loaded")
    assert held(loader) == expected
    if good and fails_at:
        assert load_first_week(loader, settings) == held(loader)
    count("loads", accepted=good)


@inputs(short=10, long=200)
@given(
    row=st.integers(0, 599),
    column=st.sampled_from(["designation", "description"]),
    chunk=st.sampled_from([1, 50, 8192]),
)
def test_a_text_that_only_postgresql_refuses_leaves_nothing_behind(
    settings, training_set, loader, empty, row, column, chunk
):
    """The reader refuses NUL; should it ever let one through, PostgreSQL does so after rows have been sent."""
    empty()
    read = csv_file.CsvFile.rows

    def spoilt(file: csv_file.CsvFile, numbers: npt.NDArray[np.int64]) -> pa.Table:
        rows = read(file, numbers)
        texts = [
            "a\x00b" if n == row else text for n, text in zip(numbers, rows[column].to_pylist(), strict=True)
        ]
        return rows.set_column(rows.column_names.index(column), column, pa.array(texts, pa.string()))

    settings = settings.model_copy(update={"initial_percentage": Decimal(100)})
    with (
        patch.object(csv_file.CsvFile, "rows", spoilt),
        patch.object(writing, "_COPY_ROWS", chunk),
        pytest.raises(LoadError, match="invalid byte sequence"),
    ):
        load_week(loader, settings, training_set)
    assert held(loader) == nothing("failed")
    count("loads of NUL", accepted=False)
