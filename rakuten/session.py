"""Open what a command needs: its settings, the database, MLflow, and a connection with the command's database role."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import TupleRow

from db.database import Database, Role, open_database
from shared.config import Settings, read_settings

if TYPE_CHECKING:
    from listeners.tracking.runs import Tracking


@dataclass(frozen=True)
class Session:
    """The settings, database and connection of one command. MLflow is opened when the command first uses it."""

    settings: Settings
    database: Database
    connection: psycopg.Connection[TupleRow]

    @cached_property
    def tracking(self) -> "Tracking":
        """Return access to the MLflow server or store that the settings name."""
        from listeners.tracking.runs import Tracking  # noqa: PLC0415  MLflow takes seconds to import

        return Tracking(self.settings)


@contextmanager
def open_session(
    command: str, role: Role = Role.READER, *, settings: Settings | None = None, autocommit: bool = True
) -> Iterator[Session]:
    """Open the database for a command, and yield its session. Close the database at the end of the block.

    Args:
        command: name of the command. PostgreSQL shows it as the application name of the connection.
        role: database role to connect with.
        settings: settings to use. By default they are read from the environment.
        autocommit: False for a load or a correction, because each of their steps commits its own transaction.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be started or reached.
    """
    settings = settings or read_settings()
    with (
        open_database(settings) as database,
        database.connect(role, f"rakuten {command}", autocommit=autocommit) as connection,
    ):
        yield Session(settings, database, connection)
