"""Upgrade a database to the newest schema version.

Alembic revisions (db/migrations) change tables and their rows. Each revision runs once. Scripts (db/sql/schema) create
functions, views, triggers and grants, and can run again. If any script has changed since the last upgrade, or if the database
lacks something that the scripts create, all scripts run after the revisions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from db import protections, sql
from db.connect import open_connection
from db.locks import Lock, lock_until_commit
from shared.errors import PipelineError


def upgrade(conninfo: str) -> tuple[str | None, str | None]:
    """Apply the missing Alembic revisions, then run all schema scripts if any has changed or the schema differs from them.

    Return the revision before and after.

    Concurrent calls are safe: an advisory lock makes them wait for each other.

    Raises:
        DatabaseUnavailableError: the server cannot be reached.
        psycopg.Error: PostgreSQL rejected a statement, for example because the role does not own the tables.
        PipelineError: the database's encoding is not UTF8, or its revision is unknown to this version of the code.
    """
    config = Config()
    with resources.as_file(resources.files("db") / "migrations") as location:
        # Alembic reads this option with ConfigParser, which gives a single '%' a special meaning. '%%' stands for one '%'.
        config.set_main_option("script_location", str(location).replace("%", "%%"))
        revisions = ScriptDirectory.from_config(config)
        with _as_psycopg_errors(), engine(conninfo, "rakuten upgrade").connect() as connection:
            encoding = connection.execute(
                sqlalchemy.select(sqlalchemy.func.current_setting("server_encoding"))
            ).scalar_one()
            if encoding != "UTF8":
                raise PipelineError(
                    f"the database has the encoding {encoding}, which cannot hold every text of the products",
                    remedy="create another database: create database rakuten_db template template0 encoding 'UTF8'",
                )
            driver_connection = connection.connection.driver_connection
            assert isinstance(driver_connection, psycopg.Connection)  # noqa: S101  `engine` connects with psycopg
            lock_until_commit(driver_connection, Lock.UPGRADE)
            before = MigrationContext.configure(connection).get_current_revision()
            if before not in {None, *(script.revision for script in revisions.walk_revisions())}:
                raise PipelineError(
                    f"the database has schema revision {before}, which this version of rakuten does not know",
                    remedy="install the version that upgraded the database, or set another STATE_PATH or POSTGRES_DB",
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _run_scripts(driver_connection)
            connection.commit()
    return before, revisions.get_current_head()


def engine(conninfo: str, application: str) -> sqlalchemy.Engine:
    """Return a SQLAlchemy engine without a connection pool.

    A `rakuten` command ends too soon to profit from a pool, and after a network fault the pool would hold broken connections.
    """
    creator = partial(open_connection, conninfo, application)
    return sqlalchemy.create_engine("postgresql+psycopg://", creator=creator, poolclass=sqlalchemy.NullPool)


@contextmanager
def _as_psycopg_errors() -> Iterator[None]:
    """Replace each SQLAlchemy error with the psycopg error that it wraps, so that callers handle psycopg errors only."""
    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        raise (error.orig or error) from error


def _run_scripts(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Run all schema scripts if any of them has changed since the last run, or if something that they create was changed."""
    if not protections.deviations(connection):
        return
    for _name, script in sql.schema_scripts():
        connection.execute(script.encode())
    protections.record_scripts(connection)
