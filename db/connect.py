"""Connect to PostgreSQL: connection strings, psycopg and ADBC connections, and readable errors.

Each connection sets, right after it is made, every setting that the pipeline depends on (queries/session/pin_settings.sql). The
settings are not sent as start-up parameters, because PgBouncer rejects the parameter `options`.
"""

import asyncio
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from tenacity import wait_random_exponential

from db.sql import query
from shared.errors import DatabaseUnavailableError, PipelineError
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
# A pooler that shares server connections between clients is recognised within this many comparisons of server processes.
_POOLER_CHECKS: Final = 3
_POOLER_ANSWER_S: Final = 2.0


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
        **KEEPALIVES,
    )


def open_connection(
    conninfo: str, application: str, *, autocommit: bool = False
) -> psycopg.Connection[TupleRow]:
    """Open a psycopg connection, set its settings, and return the connection.

    Raises:
        DatabaseUnavailableError: the server cannot be reached or rejects the login.
        PipelineError: a pooler shares the server connection with other clients.
    """
    address = conninfo_for(conninfo, application)
    try:
        connection = psycopg.connect(address, autocommit=True)
    except psycopg.OperationalError as error:
        raise unavailable(conninfo, error) from error
    try:
        server_process = _pin_settings(connection)
        if server_process != connection.info.backend_pid:
            require_own_server_process(address, lambda: _pin_settings(connection))
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


async def open_async_connection(conninfo: str, application: str) -> psycopg.AsyncConnection[TupleRow]:
    """Open an asynchronous psycopg connection in autocommit mode, set its settings, and return the connection.

    Raises:
        psycopg.OperationalError: the server cannot be reached or rejects the login.
        PipelineError: a pooler shares the server connection with other clients.
    """
    connection, server_process = await _open_async(conninfo, application)
    if server_process != connection.info.backend_pid:
        # There is a pooler. Give the server process back before the check: in a small pool, two connections that are opened at
        # once would otherwise each keep the process that the check of the other one waits for.
        await connection.close()
        await asyncio.to_thread(lambda: open_connection(conninfo, application).close())
        connection, _server_process = await _open_async(conninfo, application)
    return connection


async def _open_async(conninfo: str, application: str) -> tuple[psycopg.AsyncConnection[TupleRow], int]:
    """Open a connection and set its settings. Return the connection, and the id of its server process."""
    connection = await psycopg.AsyncConnection.connect(conninfo_for(conninfo, application), autocommit=True)
    try:
        cursor = await connection.execute(query("session/pin_settings"))
        [(server_process, _count)] = await cursor.fetchall()
    except BaseException:
        await connection.close()
        raise
    return connection, int(server_process)


def _pin_settings(connection: psycopg.Connection[Any]) -> int:
    """Set the session's settings, and return the id of the server process."""
    [(server_process, _count)] = connection.execute(query("session/pin_settings")).fetchall()
    return int(server_process)


def require_own_server_process(address: str, own_process: Callable[[], int]) -> None:
    """Raise an error if a pooler in front of PostgreSQL shares server connections between its clients.

    Then the session's advisory locks and settings would belong to other clients, too: two workers would claim one batch. With
    session pooling, each connection has a server process of its own. Otherwise, a second connection gets the server process that
    the first connection has just used, or the first connection gets another one than before.

    Args:
        address: connection string of a second connection.
        own_process: returns the id of the server process that serves the first connection now.

    Raises:
        PipelineError: a pooler shares server connections.
    """
    process = own_process()
    with closing(psycopg.connect(address, autocommit=True)) as second:
        for _ in range(_POOLER_CHECKS):
            other = _server_process_if_served(second)
            if other is None:
                return  # the pool is full, because each connection keeps its server process: this is session pooling
            if process == other or process != own_process():
                raise PipelineError(
                    "a pooler shares PostgreSQL's connections between its clients, so no session can hold a lock",
                    remedy="connect to PostgreSQL itself, or to a pool with pool_mode = session (POSTGRES_HOST, POSTGRES_PORT)",
                )


def _server_process_if_served(connection: psycopg.Connection[Any]) -> int | None:
    """Return the id of the connection's server process, or None if no server process is free for it."""
    pgconn = connection.pgconn
    pgconn.send_query(b"select pg_catalog.pg_backend_pid()")
    while pgconn.is_busy():
        if not select.select([pgconn.socket], [], [], _POOLER_ANSWER_S)[0]:
            return None
        pgconn.consume_input()
    first, _end = pgconn.get_result(), pgconn.get_result()
    return int(first.get_value(0, 0) or 0) if first else None


@contextmanager
def connect(
    conninfo: str, application: str, *, autocommit: bool = False
) -> Iterator[psycopg.Connection[TupleRow]]:
    """Open a psycopg connection for a `with` block. Commit at the end of the block, or roll back after an exception.

    Raises:
        DatabaseUnavailableError: the server cannot be reached or rejects the login.
        PipelineError: a pooler shares server connections between its clients.
    """
    with open_connection(conninfo, application, autocommit=autocommit) as connection:
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
            with connection.cursor() as cursor:
                cursor.execute(query("session/pin_settings"))
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
