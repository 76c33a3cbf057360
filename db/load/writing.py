"""How a batch is written, a week's load and a correction alike: claimed, copied in, completed, with errors that can be read."""

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
from shared.errors import LoadError

Connection = psycopg.Connection[TupleRow]

_COPY_ROWS: Final = 8192


def claim_batch(connection: Connection, name: str, percentage: Decimal, source: dict[str, Any]) -> int:
    """Take a batch up, in the transaction of the caller; returns its id."""
    claim = connection.execute("select claim_batch(%s, %s, %s)", [name, percentage, Jsonb(source)]).fetchone()
    assert claim is not None  # noqa: S101  a function call always has a row
    return int(claim[0])


def copy_rows(connection: Connection, statement: str, tables: Iterable[pa.Table]) -> int:
    """Stream Arrow's CSV into COPY: no Python object per value. Null is an empty field, an empty text is quoted.

    Args:
        connection: in the transaction of the caller.
        statement: the name of the query, a COPY of the columns of the tables.
        tables: what to send, one after the other.

    Returns:
        How many rows were sent.
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
    """Wait for every writer of products and labels, and keep new ones out until the caller's transaction ends.

    Completing a batch takes these locks too. Whoever reads before it what decides what it writes takes them first.
    """
    connection.execute("set local lock_timeout = '30s'")
    connection.execute("lock table products, labels in share row exclusive mode")


@contextmanager
def translate_errors(name: str, *, busy: str = "another load is running") -> Iterator[None]:
    """Raise what PostgreSQL refuses as a LoadError; `busy` says what a lock that is not to be had means."""
    try:
        yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation) as error:
        raise LoadError(
            f"{name}: {busy}", remedy="wait for it, then try again; pg_stat_activity shows who it is"
        ) from error
    except psycopg.Error as error:
        raise LoadError(
            f"{name}: {error}".strip(), remedy="it can be repeated with the same command"
        ) from error
