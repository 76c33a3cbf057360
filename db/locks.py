"""Define every advisory lock that has a single key in one place, so that no two purposes share a key.

A stage that works on a batch holds another kind of lock: its two keys (stage and batch) are defined in
db/sql/schema/010_locks.sql. PostgreSQL never confuses a lock with one key and a lock with two keys.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Final, LiteralString

import psycopg
from psycopg.rows import TupleRow

from db.sql import query
from shared.errors import OutageError

_TIMEOUT: Final = "2min"


class Lock(IntEnum):
    """The keys for pg_advisory_lock(key). Each key is a number whose bytes spell a word in ASCII, such as 'prepare'."""

    UPGRADE = 0x72616B7574656E  # spells 'rakuten': only one process at a time upgrades the database schema
    PREPARE = 0x70726570617265  # spells 'prepare': one process at a time sets up the embedded PostgreSQL (role, database)
    FIXED_SETS = 0x6669786564  # spells 'fixed': only one worker at a time publishes the test and holdout sets
    CHAMPION = 0x6368616D70  # spells 'champ': only one process at a time moves the alias `champion`


@contextmanager
def advisory_lock(
    connection: psycopg.Connection[TupleRow], lock: Lock, timeout: str = _TIMEOUT
) -> Iterator[None]:
    """Hold an advisory lock for a `with` block. Other sessions that ask for the same lock wait.

    Args:
        connection: a connection in autocommit mode. PostgreSQL releases the lock when this connection ends, at the latest.
        lock: the lock to hold.
        timeout: how long to wait for the lock, as a PostgreSQL setting.

    Raises:
        OutageError: another session still holds the lock after `timeout`. The message names this session.
    """
    _wait_for(connection, "select pg_advisory_lock(%s)", lock, timeout)
    try:
        yield
    finally:
        with suppress(
            psycopg.OperationalError
        ):  # the connection was lost, so PostgreSQL has released the lock
            connection.execute("select pg_advisory_unlock(%s)", [lock])


def lock_until_commit(connection: psycopg.Connection[TupleRow], lock: Lock, timeout: str = _TIMEOUT) -> None:
    """Take an advisory lock that PostgreSQL releases at the end of the connection's transaction.

    Raises:
        OutageError: as `advisory_lock`.
    """
    connection.execute("select")  # begins the transaction, so that `_wait_for` only makes a savepoint in it
    _wait_for(connection, "select pg_advisory_xact_lock(%s)", lock, timeout)


def _wait_for(
    connection: psycopg.Connection[TupleRow], statement: LiteralString, lock: Lock, timeout: str
) -> None:
    limit = "select set_config('lock_timeout', %s, true)"
    try:
        with connection.transaction():  # a savepoint, so that the holder can be asked for after the timeout
            connection.execute(limit, [timeout])
            connection.execute(statement, [lock])
            connection.execute(limit, ["0"])
    except psycopg.errors.LockNotAvailable as error:
        holder = connection.execute(query("locks/holder"), {"key": lock}).fetchone()
        name, pid = holder or ("a session that has just ended", None)
        raise OutageError(
            f"the lock {lock.name} of PostgreSQL has not become free within {timeout}: {name} (backend {pid}) holds it",
            remedy=f"if that program is frozen, end it, or run: select pg_terminate_backend({pid})",
        ) from error
