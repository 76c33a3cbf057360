"""Bring a database to the newest schema version."""

from importlib import resources

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from db.connect import engine

# Any number that no other user of the database locks: 'rakuten' in ASCII.
_UPGRADE_LOCK = 0x72616B7574656E


def upgrade(conninfo: str) -> tuple[str | None, str | None]:
    """Apply what is missing; returns the schema version before and after. Safe when several start at once.

    Raises:
        DatabaseUnavailableError: the server cannot be reached.
    """
    config = Config()
    with resources.as_file(resources.files("db") / "migrations") as location:
        config.set_main_option("script_location", str(location).replace("%", "%%"))  # a ConfigParser
        with engine(conninfo, "rakuten upgrade").connect() as connection:
            # A transaction-level lock: released with the commit, also when this process is killed.
            connection.execute(sqlalchemy.text("select pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            before = MigrationContext.configure(connection).get_current_revision()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            after = ScriptDirectory.from_config(config).get_current_head()
            connection.commit()
    return before, after
