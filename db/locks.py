"""Every advisory lock that has a single key, so that no two purposes share a number.

A stage's claim on a batch has two keys, which PostgreSQL never mixes with these: db/sql/schema/010_locks.sql defines them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import psycopg
from psycopg.rows import TupleRow


class Lock(IntEnum):
    """What a lock protects. The numbers are names in ASCII."""

    UPGRADE = 0x72616B7574656E  # 'rakuten': one process upgrades the schema
    PREPARE = 0x70726570617265  # 'prepare': one process creates the embedded owner and database
    FIXED_SETS = 0x6669786564  # 'fixed': one worker publishes the test and holdout sets
    CHAMPION = 0x6368616D70  # 'champ': one process moves the alias


@contextmanager
def advisory_lock(connection: psycopg.Connection[TupleRow], lock: Lock) -> Iterator[None]:
    """Hold a lock for the block. Other sessions that ask for it wait.

    Args:
        connection: in autocommit mode; the lock belongs to its session, and ends with it at the latest.
        lock: which one.
    """
    connection.execute("select pg_advisory_lock(%s)", [lock])
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [lock])
