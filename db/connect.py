"""How the parts reach PostgreSQL: one place for connection strings, engines and readable errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from tenacity import wait_random_exponential

from shared.errors import DatabaseUnavailableError
from shared.logs import censor

if TYPE_CHECKING:
    import pyarrow as pa  # most who connect read no Arrow, and need not wait for its import

# A half-open connection (packets dropped without a reset) would otherwise hang for ever; this ends it in about 10 s.
KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}
CONNECT_TIMEOUT_S = 5
# Between attempts to connect again, for every part that does: up to 0.1 s after the first failure, up to 5 s after many.
BACKOFF = wait_random_exponential(multiplier=0.1, max=5.0)
# The target size of an Arrow record batch. ADBC's own, 16 MB, takes 36 MB more memory and is no faster.
_ARROW_BATCH_BYTES: Final = 1 << 20
# The server's side of the same: a worker that was cut off would otherwise hold its locks for two hours.
_SERVER_KEEPALIVES = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=8000"
)


def conninfo_for(conninfo: str, application: str) -> str:
    """The connection string with keepalives, a connect timeout and the name that psql shows for this client."""
    return make_conninfo(
        conninfo,
        application_name=application,
        client_encoding="utf8",  # COPY sends bytes: PGCLIENTENCODING must not reinterpret them
        connect_timeout=CONNECT_TIMEOUT_S,
        options=f"{conninfo_to_dict(conninfo).get('options') or ''} {_SERVER_KEEPALIVES}".strip(),
        **KEEPALIVES,
    )


@contextmanager
def connect(
    conninfo: str, application: str, *, autocommit: bool = False
) -> Iterator[psycopg.Connection[TupleRow]]:
    """A psycopg connection, committed at the end of the block or rolled back by an exception.

    Raises:
        DatabaseUnavailableError: the server cannot be reached or refuses the login.
    """
    try:
        connection = psycopg.connect(conninfo_for(conninfo, application), autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise unavailable(conninfo, error) from error
    with connection:
        yield connection


class ArrowConnection:
    """A PostgreSQL connection that reads rows as Arrow record batches. Its errors are psycopg's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def read(
        self, statement: str, parameters: Mapping[str, int | str] | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """Run one select statement and yield its rows, about a megabyte at a time.

        Args:
            statement: reads the parameter `name` as `current_setting('rakuten_read.name')`. ADBC streams only a statement
                without bound parameters: the result of any other is held in memory as a whole.
            parameters: bound to `set_config`, before the statement runs.

        Raises:
            psycopg.Error: of the class that psycopg has for the same failure.
        """
        options = {"adbc.postgresql.batch_size_hint_bytes": _ARROW_BATCH_BYTES}
        with _errors_of_psycopg(), self._connection.cursor(adbc_stmt_kwargs=options) as cursor:
            for name, value in (parameters or {}).items():
                cursor.execute("select set_config($1, $2, false)", [f"rakuten_read.{name}", str(value)])
            cursor.execute(statement)
            # The public fetch_record_batch() raises OSError without the SQLSTATE (apache/arrow-adbc, issue 1523).
            yield from cursor._results.reader  # noqa: SLF001


@contextmanager
def connect_arrow(conninfo: str, application: str) -> Iterator[ArrowConnection]:
    """Open a connection for reading Arrow, in autocommit mode. ADBC connects twice: first to read PostgreSQL's types.

    Raises:
        DatabaseUnavailableError: the server cannot be reached or refuses the login.
    """
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415  only the snapshot listener needs it, and only `ml` installs it

    try:
        with _errors_of_psycopg():
            # ADBC hands its URI to libpq, which takes a connection string in any form.
            connection = dbapi.connect(conninfo_for(conninfo, application), autocommit=True)
    except psycopg.OperationalError as error:
        raise unavailable(conninfo, error) from error
    with connection:
        yield ArrowConnection(connection)


@contextmanager
def _errors_of_psycopg() -> Iterator[None]:
    """Re-raise an error of ADBC as the error that psycopg raises for the same SQLSTATE, or for a lost connection."""
    from adbc_driver_manager import Error, OperationalError  # noqa: PLC0415

    try:
        yield
    except Error as error:
        kind: type[psycopg.Error] = psycopg.DatabaseError
        if error.sqlstate:
            with suppress(KeyError):  # a newer PostgreSQL may have codes that psycopg does not know
                kind = psycopg.errors.lookup(error.sqlstate)
        elif isinstance(error, OperationalError):
            kind = psycopg.OperationalError
        raise kind(str(error)) from error


def unavailable(conninfo: str, error: Exception) -> DatabaseUnavailableError:
    """The readable form of a failed connection."""
    parts = conninfo_to_dict(conninfo)
    where = f"{parts.get('user')}@{parts.get('host')}:{parts.get('port')}/{parts.get('dbname')}"
    return DatabaseUnavailableError(
        censor(f"PostgreSQL does not answer at {where}: {error}".strip()),
        remedy="check POSTGRES_* in the environment or .env, or unset POSTGRES_HOST to use the embedded PostgreSQL",
    )


def engine(conninfo: str, application: str) -> sqlalchemy.Engine:
    """A SQLAlchemy engine without a pool: the commands are short, and an idle connection outlives no fault."""

    def creator() -> Any:
        try:
            return psycopg.connect(conninfo_for(conninfo, application))
        except psycopg.OperationalError as error:
            raise unavailable(conninfo, error) from error

    return sqlalchemy.create_engine("postgresql+psycopg://", creator=creator, poolclass=sqlalchemy.NullPool)
