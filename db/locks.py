"""Define every advisory lock with a single key in one place, so that no two purposes share a number.

The claim of a stage on a batch has two keys, defined in db/sql/schema/010_locks.sql. PostgreSQL never mixes the two kinds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import psycopg
from psycopg.rows import TupleRow


class Lock(IntEnum):
    """The purposes of the locks. Each number spells a name in ASCII."""

    UPGRADE = 0x72616B7574656E  # 'rakuten': only one process upgrades the schema
    PREPARE = 0x70726570617265  # 'prepare': only one process creates the embedded owner and database
    FIXED_SETS = 0x6669786564  # 'fixed': only one worker publishes the test and holdout sets
    CHAMPION = 0x6368616D70  # 'champ': only one process moves the champion alias


@contextmanager
def advisory_lock(connection: psycopg.Connection[TupleRow], lock: Lock) -> Iterator[None]:
    """Hold a lock for the block. Other sessions that ask for the same lock wait.

    Args:
        connection: a connection in autocommit mode. The lock belongs to its session and ends with the session at the latest.
        lock: the lock to hold.
    """
    connection.execute("select pg_advisory_lock(%s)", [lock])
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [lock])
