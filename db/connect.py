"""How the parts reach PostgreSQL: one place for connection strings, engines and readable errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from tenacity import wait_random_exponential

from shared.errors import DatabaseUnavailableError
from shared.logs import censor

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
