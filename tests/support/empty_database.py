"""A database without the schema, in the cluster where the roles exist already."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from db.database import Database, Role
from shared.config import read_settings


@contextmanager
def empty_database(server, name: str, options: str = "", **settings: object) -> Iterator[Database]:
    """Create a database of the owner's role, and drop it at the end. `options` are further words of `create database`."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        identifier = sql.Identifier(name)
        connection.execute(
            sql.SQL("create database {} owner {} template template0 {}").format(
                identifier, sql.Identifier(Role.OWNER), sql.SQL(options)
            )
        )
        try:
            yield Database(read_settings(postgres_db=name, **settings), server)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(identifier))
