"""Write the batch of a week's load or of a correction: claim it, copy its rows, lock the tables, translate the errors."""

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
    """Claim a batch in the transaction of the caller. Return the id of the batch."""
    claim = connection.execute("select claim_batch(%s, %s, %s)", [name, percentage, Jsonb(source)]).fetchone()
    assert claim is not None  # noqa: S101  a function call always returns a row
    return int(claim[0])


def copy_rows(connection: Connection, statement: str, tables: Iterable[pa.Table]) -> int:
    """Send tables to PostgreSQL with COPY, as CSV. Arrow writes the CSV, which needs no Python object per value.

    Null is an empty field in the CSV. An empty text is a quoted field.

    Args:
        connection: a connection in the transaction of the caller.
        statement: the name of a query that copies the columns of the tables.
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
    """Wait for every writer of products and labels, and block new writers until the transaction of the caller ends.

    Completing a batch takes the same locks. A caller that decides from the rows what to write locks the tables before it reads.
    """
    connection.execute("set local lock_timeout = '30s'")
    connection.execute("lock table products, labels in share row exclusive mode")


@contextmanager
def translate_errors(name: str, *, busy: str = "another load is running") -> Iterator[None]:
    """Re-raise psycopg errors as LoadError. `busy` is the message if another session holds a lock or runs a load."""
    try:
        yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation) as error:
        raise LoadError(
            f"{name}: {busy}", remedy="wait, then try again; pg_stat_activity shows the other session"
        ) from error
    except psycopg.Error as error:
        raise LoadError(f"{name}: {error}".strip(), remedy="run the same command again") from error
