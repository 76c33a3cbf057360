"""Claim a batch, copy rows, lock the tables and translate psycopg errors, for weekly loads and for corrections."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from db.sql import query
from db.sqlstates import meaning_of
from shared.errors import LoadError

Connection = psycopg.Connection[TupleRow]

_COPY_ROWS: Final = 8192


def claim_batch(connection: Connection, name: str, percentage: Decimal, source: dict[str, Any]) -> int:
    """Create the batch `name`, or take over an earlier attempt at it that failed or was killed. Return the batch's id.

    This function does not commit: the caller does.
    """
    claim = connection.execute("select claim_batch(%s, %s, %s)", [name, percentage, Jsonb(source)]).fetchone()
    assert claim is not None  # noqa: S101  a function call always returns a row
    return int(claim[0])


def copy_rows(connection: Connection, statement: str, tables: Iterable[pa.Table]) -> int:
    """Send Arrow tables to PostgreSQL with COPY, as CSV. This is fast: Arrow writes CSV without a Python object for each value.

    In the CSV, a null is an empty field, and an empty text is an empty field in quotes.

    Args:
        connection: a connection in the transaction of the caller.
        statement: the name of a COPY statement (see `db.sql.query`) for the columns of the tables.
        tables: the tables, sent one after the other.

    Returns:
        The number of rows that were sent.
    """
    options = pyarrow.csv.WriteOptions(include_header=False)
    with connection.cursor() as cursor:
        with cursor.copy(query(statement)) as copy:
            for table in tables:
                for batch in table.to_batches(max_chunksize=_COPY_ROWS):
                    buffer = io.BytesIO()
                    pyarrow.csv.write_csv(batch, buffer, options)
                    copy.write(buffer.getbuffer())
        return cursor.rowcount


def lock_tables(connection: Connection) -> None:
    """Wait up to 30 s until nobody else writes `products` or `labels`, and block new writers until the transaction ends.

    Call this before you read rows of these tables, if what you write depends on the rows. Otherwise, another session may change
    the rows before you write. The SQL function `complete_batch` takes the same locks, but only at the end of a batch.
    """
    connection.execute("set local lock_timeout = '30s'")
    connection.execute("lock table products, labels in share row exclusive mode")


@contextmanager
def translate_errors(name: str, *, busy: str = "another load is running") -> Iterator[None]:
    """Re-raise a psycopg error as a LoadError whose message begins with `name`.

    `busy` is the rest of the message if the cause is another session, which holds a lock or runs a load. For any other cause,
    the rest is PostgreSQL's own message.
    """
    try:
        yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation) as error:
        raise LoadError(
            f"{name}: {busy}", remedy="wait, then try again; pg_stat_activity shows the blocking session"
        ) from error
    except psycopg.Error as error:
        raise LoadError(f"{name}: {error}".strip(), remedy=meaning_of(error).remedy) from error
