"""Connect to PostgreSQL: connection strings, psycopg and ADBC connections, SQLAlchemy engines and readable errors."""

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
    import pyarrow as pa  # for type checkers only: importing it takes time, and most users of this module read no Arrow data

# Without these libpq settings, a connection would hang if the network drops all packets. With them, it fails after about 10 s.
KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}
CONNECT_TIMEOUT_S = 5
# The random wait before each attempt to reconnect: up to 0.1 s after the first failure, up to 5 s after many failures.
BACKOFF = wait_random_exponential(multiplier=0.1, max=5.0)
# The target size of an Arrow record batch: 1 MB. With ADBC's default of 16 MB, this process needs 36 MB more memory and is no
# faster.
_ARROW_BATCH_BYTES: Final = 1 << 20
# These options set the limits of KEEPALIVES for the server's end of the connection, too. Without them, the server would notice
# only after two hours that a worker is lost, and would keep the worker's locks until then.
_SERVER_KEEPALIVES = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=8000"
)


def conninfo_for(conninfo: str, application: str) -> str:
    """Return the connection string `conninfo` with TCP keepalives, a connect timeout and the name of the application.

    PostgreSQL shows this name in pg_stat_activity.
    """
    return make_conninfo(
        conninfo,
        application_name=application,
        # COPY sends UTF-8. Without this setting, the environment variable PGCLIENTENCODING could choose another encoding.
        client_encoding="utf8",
        connect_timeout=CONNECT_TIMEOUT_S,
        options=f"{conninfo_to_dict(conninfo).get('options') or ''} {_SERVER_KEEPALIVES}".strip(),
        **KEEPALIVES,
    )


@contextmanager
def connect(
    conninfo: str, application: str, *, autocommit: bool = False
) -> Iterator[psycopg.Connection[TupleRow]]:
    """Open a psycopg connection for a `with` block. Commit at the end of the block, or roll back after an exception.

    Raises:
        DatabaseUnavailableError: the server cannot be reached or rejects the login.
    """
    try:
        connection = psycopg.connect(conninfo_for(conninfo, application), autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise unavailable(conninfo, error) from error
    with connection:
        yield connection


class ArrowConnection:
    """A PostgreSQL connection that reads rows as Arrow record batches. It raises psycopg errors instead of ADBC errors."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def read(
        self, statement: str, parameters: Mapping[str, int | str] | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """Run one SELECT statement and yield its rows in record batches of about a megabyte.

        Args:
            statement: the SQL text. It reads a parameter, such as `batch_id`, as `current_setting('rakuten_read.batch_id')`.
                It must not use bound parameters: ADBC would then hold the whole result in memory instead of streaming it.
            parameters: the value of each parameter by name. `set_config` stores it in the session before the statement runs.

        Raises:
            psycopg.Error: the statement failed. The error has the class that psycopg itself would raise for this failure.
        """
        options = {"adbc.postgresql.batch_size_hint_bytes": _ARROW_BATCH_BYTES}
        with _translate_adbc_errors(), self._connection.cursor(adbc_stmt_kwargs=options) as cursor:
            for name, value in (parameters or {}).items():
                cursor.execute("select set_config($1, $2, false)", [f"rakuten_read.{name}", str(value)])
            cursor.execute(statement)
            # Do not call the public method fetch_record_batch(): its errors are OSErrors without a SQLSTATE
            # (apache/arrow-adbc, issue 1523).
            yield from cursor._results.reader  # noqa: SLF001


@contextmanager
def connect_arrow(conninfo: str, application: str) -> Iterator[ArrowConnection]:
    """Open a connection that reads Arrow data, in autocommit mode.

    ADBC makes two connections. It uses the first only to read which data types the server has, and then closes this connection.

    Raises:
        DatabaseUnavailableError: the server cannot be reached or rejects the login.
    """
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415  the snapshot listener alone needs it; the extra `ml` installs it

    try:
        with _translate_adbc_errors():
            # ADBC's parameter `uri` also accepts the `key=value` string of `conninfo_for`, because libpq parses the value.
            connection = dbapi.connect(conninfo_for(conninfo, application), autocommit=True)
    except psycopg.OperationalError as error:
        raise unavailable(conninfo, error) from error
    with connection:
        yield ArrowConnection(connection)


@contextmanager
def _translate_adbc_errors() -> Iterator[None]:
    """Re-raise an ADBC error as the psycopg error for its SQLSTATE, or as OperationalError if the connection was lost."""
    from adbc_driver_manager import Error, OperationalError  # noqa: PLC0415

    try:
        yield
    except Error as error:
        kind: type[psycopg.Error] = psycopg.DatabaseError
        if error.sqlstate:
            with suppress(KeyError):  # psycopg may not know a SQLSTATE that a newer PostgreSQL added
                kind = psycopg.errors.lookup(error.sqlstate)
        elif isinstance(error, OperationalError):
            kind = psycopg.OperationalError
        raise kind(str(error)) from error


def unavailable(conninfo: str, error: Exception) -> DatabaseUnavailableError:
    """Return the error to raise if connecting fails with `error`. The message shows the server's address, but no password."""
    parts = conninfo_to_dict(conninfo)
    where = f"{parts.get('user')}@{parts.get('host')}:{parts.get('port')}/{parts.get('dbname')}"
    return DatabaseUnavailableError(
        censor(f"PostgreSQL does not answer at {where}: {error}".strip()),
        remedy="check the variables POSTGRES_* (environment or .env), or unset POSTGRES_HOST to use the embedded PostgreSQL",
    )


def engine(conninfo: str, application: str) -> sqlalchemy.Engine:
    """Return a SQLAlchemy engine without a connection pool.

    A `rakuten` command ends too soon to profit from a pool, and after a network fault the pool would hold broken connections.
    """

    def creator() -> Any:
        try:
            return psycopg.connect(conninfo_for(conninfo, application))
        except psycopg.OperationalError as error:
            raise unavailable(conninfo, error) from error

    return sqlalchemy.create_engine("postgresql+psycopg://", creator=creator, poolclass=sqlalchemy.NullPool)
