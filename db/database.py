"""Open the database of the pipeline: the server that POSTGRES_HOST names, or the embedded PostgreSQL under STATE_PATH."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from db import protections
from db.connect import connect
from db.embedded import EmbeddedPostgres
from db.locks import Lock, advisory_lock
from db.sql import schema_scripts
from shared.config import Settings
from shared.errors import DatabaseUnavailableError


class Role(StrEnum):
    """The PostgreSQL roles. For each step (load, snapshot, training) there is a role that may write only what this step writes.

    The model server's role and the reader may write nothing.

    The rights are granted in db/sql/schema/100_roles_and_grants.sql.
    """

    OWNER = "rakuten_owner"
    LOADER = "rakuten_loader"
    SNAPSHOT = "rakuten_snapshot"
    TRAINING = "rakuten_training"
    SERVER = "rakuten_server"
    READER = "rakuten_reader"


@dataclass(frozen=True)
class Database:
    """The database of the pipeline. `embedded` is the server that the pipeline starts, or None if POSTGRES_HOST is set."""

    settings: Settings
    embedded: EmbeddedPostgres | None

    def conninfo(self, role: Role) -> str:
        """Return the connection string for a role.

        On the embedded server, the connection logs in as `role`. On the server that POSTGRES_HOST names, every connection logs
        in as POSTGRES_USER, which must be a member of `role`.
        """
        settings = self.settings
        if self.embedded is not None:
            return self.embedded.conninfo(settings.postgres_db, role, self.embedded.password)
        password = settings.postgres_password
        # With several hosts, connect to the primary, unless libpq's own variable asks for another choice.
        choice = os.environ.get("PGTARGETSESSIONATTRS", "read-write")  # noqa: TID251
        return make_conninfo(
            host=settings.postgres_host,
            port=settings.postgres_port,
            dbname=settings.postgres_db,
            user=settings.postgres_user,
            password=password.get_secret_value() if password else None,
            target_session_attrs=choice if "," in str(settings.postgres_host) else None,
        )

    def connect(
        self, role: Role, application: str, *, autocommit: bool = False
    ) -> AbstractContextManager[psycopg.Connection[TupleRow]]:
        """Connect to the database as a role. pg_stat_activity shows `application` as the name of the connection."""
        return connect(self.conninfo(role), application, autocommit=autocommit)

    def upgrade(self) -> tuple[str | None, str | None]:
        """Upgrade the schema to the newest revision. In an embedded database, also let each role log in.

        Return (revision before, revision after). A revision is None if the database has no schema.
        """
        from db import schema  # noqa: PLC0415  Alembic and SQLAlchemy take 0.3 s to import

        versions = schema.upgrade(self.conninfo(Role.OWNER))
        if self.embedded is not None:
            _grant_logins(self.embedded, self.settings.postgres_db)
        return versions


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database for a `with` block.

    If POSTGRES_HOST names a server, use its database without upgrading the schema. If POSTGRES_HOST is not set, start the
    embedded PostgreSQL, unless it already runs, and upgrade its schema.

    Raises:
        DatabaseUnavailableError: the embedded PostgreSQL cannot be started or reached.
    """
    if settings.postgres_host is not None:
        yield Database(settings, None)
        return
    with embedded_server(settings) as server:
        yield prepare_embedded(settings, server)


def embedded_server(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded PostgreSQL under STATE_PATH, without starting it.

    Raises:
        DatabaseUnavailableError: POSTGRES_HOST names another server.
    """
    if settings.postgres_host is not None:
        raise DatabaseUnavailableError(
            f"POSTGRES_HOST names {settings.postgres_host}, so the embedded PostgreSQL is not in use",
            remedy="unset POSTGRES_HOST to use the embedded PostgreSQL",
        )
    return EmbeddedPostgres(settings.postgres_path, bindir=settings.pg_bindir)


def prepare_embedded(settings: Settings, server: EmbeddedPostgres) -> Database:
    """Create the owner role and the database in the embedded server if they are missing. Then upgrade the schema.

    If several processes call this function at once, they run one after the other. A server that was already running and that this
    version of the code has prepared is used as it is: then a command starts faster, and `rakuten doctor` sees what was changed.
    """
    database = Database(settings, server)
    if not server.owned and _is_prepared(server, settings.postgres_db):
        return database
    with (
        psycopg.connect(server.conninfo(), autocommit=True) as connection,
        advisory_lock(connection, Lock.PREPARE),
    ):
        if not connection.execute("select 1 from pg_roles where rolname = %s", [Role.OWNER]).fetchone():
            connection.execute(
                sql.SQL("create role {} login createrole password {}").format(
                    sql.Identifier(Role.OWNER), sql.Literal(_scram(connection, Role.OWNER, server.password))
                )
            )
        if not connection.execute(
            "select 1 from pg_database where datname = %s", [settings.postgres_db]
        ).fetchone():
            connection.execute(
                sql.SQL("create database {} owner {}").format(
                    sql.Identifier(settings.postgres_db), sql.Identifier(Role.OWNER)
                )
            )
        database.upgrade()
    return database


def _is_prepared(server: EmbeddedPostgres, dbname: str) -> bool:
    """Tell whether this version of the code has created the schema, and then let each role log in, which is the last step."""
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(server.conninfo(dbname), autocommit=True) as connection,
    ):
        [(logins,)] = connection.execute(
            "select count(*) from pg_roles where rolname = any(%s) and rolcanlogin", [list(Role)]
        ).fetchall()
        return logins == len(Role) and protections.is_of_this_version(connection)
    return False  # there is no such database yet


def _grant_logins(server: EmbeddedPostgres, dbname: str) -> None:
    """Let all roles log in with the superuser's password, because one person uses this server, on one machine."""
    with psycopg.connect(server.conninfo(dbname), autocommit=True) as connection:
        # The SQL functions listener_sessions() and wal_bytes() run as the owner role and need these rights. Only a superuser can
        # grant them. They are granted only once, so that a read-only server can start, too.
        [(sees_sessions, lists_wal)] = connection.execute(
            "select pg_has_role(%(role)s, 'pg_read_all_stats', 'member'), "
            "has_function_privilege(%(role)s, 'pg_catalog.pg_ls_waldir()', 'execute')",
            {"role": Role.OWNER},
        ).fetchall()
        owner = sql.Identifier(Role.OWNER)
        if not sees_sessions:
            connection.execute(sql.SQL("grant pg_read_all_stats to {}").format(owner))
        if not lists_wal:
            connection.execute(
                sql.SQL("grant execute on function pg_catalog.pg_ls_waldir() to {}").format(owner)
            )
        # The upgrade ran this script as the owner role, which may not describe itself.
        connection.execute(dict(schema_scripts())["140_describe_roles.sql"].encode())
        rows = connection.execute(
            "select rolname from pg_roles where rolname = any(%s) and not rolcanlogin", [list(Role)]
        )
        for (name,) in rows.fetchall():
            connection.execute(
                sql.SQL("alter role {} login password {}").format(
                    sql.Identifier(name), sql.Literal(_scram(connection, name, server.password))
                )
            )


def _scram(connection: psycopg.Connection[tuple[object, ...]], user: str, password: str) -> str:
    """Return the SCRAM hash of a password, so that SQL statements and PostgreSQL's log never show the password."""
    return connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
