"""Reading a batch from PostgreSQL as Arrow: every value arrives as it is stored, and a failure is psycopg's."""

import psycopg
import pyarrow as pa
import pytest
from psycopg.conninfo import make_conninfo

from db.connect import connect_arrow
from db.database import Role
from listeners.outages import outage_of
from listeners.snapshot import read
from listeners.snapshot.parquet import SCHEMA
from shared.errors import DatabaseUnavailableError

CODE = 10
SMALLEST, LARGEST = -(2**63), 2**63 - 1
LONGEST = 100_000  # characters (db/migrations/versions/0001_tables.sql)
ROWS = [
    (1, "", "", 1, "", 0),
    (2, None, None, None, None, 1),
    (SMALLEST, "smallest", None, SMALLEST, "a", 2),
    (LARGEST, None, "largest", LARGEST, "b", 3),
    (3, "Bébé 婴儿 👶🏽 e\u0301", "\r\n\t\\N \x01 \"'", 3, "é.jpg", 4),
    (4, "€" * LONGEST, "👶" * LONGEST, 4, "c", None),
    (-5, "last of those without a rank", "\\.", 0, "d", None),
]
TEXT_BYTES = 30_000


@pytest.fixture
def insert(as_role):
    """Complete a batch of products of class 10, all of one split: `insert(rows, "train")` returns its id."""
    products = (
        "insert into products (productid, designation, description, imageid, image_path, sample_rank, split)"
        " values (%s, %s, %s, %s, %s, %s, %s)"
    )

    def completed(*rows, split="train"):
        with as_role(Role.LOADER, autocommit=True) as connection:
            [batch_id] = connection.execute("select claim_batch('week_1', 1, '{}')").fetchone()
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("select begin_batch(%s)", [batch_id])
                cursor.executemany(products, [(*row, split) for row in rows])
                cursor.execute(
                    "insert into labels (productid, prdtypecode) select productid, %s from products", [CODE]
                )
            connection.execute("select complete_batch(%s)", [batch_id])
        return batch_id

    return completed


@pytest.fixture
def connection(database):
    with connect_arrow(database.conninfo(Role.SNAPSHOT), "test read") as opened:
        yield opened


def read_rows(connection, batch_id):
    return pa.concat_tables(read.stream_rows(connection, batch_id)).to_pylist()


def one_row(connection, statement, parameters=None):
    [row] = pa.Table.from_batches(connection.read(statement, parameters)).to_pylist()
    return row


def test_every_value_arrives_as_it_is_stored(insert, connection):
    batch_id = insert(*reversed(ROWS))
    in_order = [*ROWS[:5], *sorted(ROWS[5:])]
    assert read_rows(connection, batch_id) == [
        dict(zip(SCHEMA.names, (*row[:5], CODE), strict=True)) | {"held_out": False} for row in in_order
    ]


def test_held_out_rows_come_without_texts(insert, connection):
    assert read_rows(connection, insert(ROWS[4], split="holdout")) == [
        dict.fromkeys(SCHEMA.names) | {"productid": 3, "imageid": 3, "prdtypecode": CODE, "held_out": True}
    ]


@pytest.mark.parametrize("split", ["train", "holdout"])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20])
def test_chunks_have_exactly_so_many_rows(insert, connection, tmp_path, count, split):
    batch_id = insert(*((n, "x" * TEXT_BYTES, None, n, None, n) for n in range(count)), split=split)
    rows = read.read_batch(connection, batch_id, 10, tmp_path / "rows.arrow")
    sizes = [chunk.num_rows for chunk in rows.chunks()]
    trained = count if split == "train" else 0
    assert sizes == [10] * (trained // 10) + ([trained % 10] if trained % 10 else [])
    assert len(rows.productids) == len(rows.labels) == trained
    assert rows.held_out == len(rows.holdout) == count - trained


def test_a_batch_that_is_not_there_has_no_rows(connection, tmp_path):
    rows = read.read_batch(connection, 99, 10, tmp_path / "rows.arrow")
    assert (list(rows.chunks()), len(rows.productids), rows.held_out) == ([], 0, 0)


def test_the_memory_of_a_read_is_a_few_record_batches(connection):
    rows = "select n, repeat('x', 10000) as text from generate_series(1, 5000) as n"
    before, most, read_rows = pa.total_allocated_bytes(), 0, 0
    for batch in connection.read(rows):
        read_rows += batch.num_rows
        most = max(most, batch.nbytes)
    assert read_rows == 5000
    assert most < 2 << 20
    assert pa.total_allocated_bytes() == before


def test_the_connection_is_like_every_other(connection, monkeypatch, database):
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    names = ("application_name", "client_encoding", "tcp_keepalives_idle", "tcp_user_timeout")
    settings = ", ".join(f"current_setting('{name}') as {name}" for name in names)
    with connect_arrow(database.conninfo(Role.SNAPSHOT), "test other") as other:
        assert one_row(other, f"select {settings}, current_user::text as role") == {
            "application_name": "test other",
            "client_encoding": "UTF8",
            "tcp_keepalives_idle": "5",
            "tcp_user_timeout": "8000",
            "role": Role.SNAPSHOT,
        }


def test_a_parameter_is_a_value_and_no_sql(connection):
    value = "1'; drop table products; --"
    statement = "select current_setting('rakuten_read.value') as value"
    assert one_row(connection, statement, {"value": value}) == {"value": value}


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("select 1 / (n - 90000) from generate_series(1, 100000) as n", psycopg.errors.DivisionByZero),
        ("select current_setting('rakuten_read.unset')", psycopg.errors.UndefinedObject),
        ("select repeat('x', 1100000000)", psycopg.errors.ProgramLimitExceeded),
    ],
)
def test_an_error_of_postgresql_is_the_one_that_psycopg_raises_and_no_outage(connection, statement, error):
    with pytest.raises(error) as caught:
        list(connection.read(statement))
    assert outage_of(caught.value) is None
    assert one_row(connection, "select 1 as one") == {"one": 1}


@pytest.mark.parametrize(
    ("statement", "error", "remedy"),
    [
        ("select nothing", psycopg.errors.UndefinedColumn, "rakuten db upgrade"),
        ("select * from data_loads for update", psycopg.errors.InsufficientPrivilege, "log in as a member"),
    ],
)
def test_what_a_person_must_correct_is_waited_out_with_its_remedy(connection, statement, error, remedy):
    with pytest.raises(error) as caught:
        list(connection.read(statement))
    assert remedy in outage_of(caught.value).remedy


def test_an_operators_cancellation_is_an_outage(connection, as_superuser):
    pid = one_row(connection, "select pg_backend_pid() as pid")["pid"]
    batches = connection.read("select repeat('x', 10000) from generate_series(1, 20000)")
    next(batches)
    with as_superuser() as superuser:
        superuser.execute("select pg_cancel_backend(%s)", [pid])
    with pytest.raises(psycopg.errors.QueryCanceled) as caught:
        list(batches)
    assert outage_of(caught.value) is not None


@pytest.mark.parametrize("wrong", [{"password": "wrong-hunter2"}, {"port": 1}, {"dbname": "nowhere"}])
def test_a_server_that_cannot_be_reached_is_an_outage_without_a_password(database, wrong):
    conninfo = make_conninfo(database.conninfo(Role.SNAPSHOT), **wrong)
    with pytest.raises(DatabaseUnavailableError) as caught, connect_arrow(conninfo, "test read"):
        pass
    said = f"{caught.value.message} {caught.value.__cause__} {outage_of(caught.value)}"
    assert "hunter2" not in said
    assert database.embedded.password not in said
