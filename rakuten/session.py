"""What a command works with: the settings, the database, a connection as the role that the command needs, and MLflow."""

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
    """One command's settings, database and connection. MLflow is opened when it is first asked for."""

    settings: Settings
    database: Database
    connection: psycopg.Connection[TupleRow]

    @cached_property
    def tracking(self) -> "Tracking":
        """The MLflow that the settings name."""
        from listeners.tracking.runs import Tracking  # noqa: PLC0415  MLflow takes seconds to import

        return Tracking(self.settings)


@contextmanager
def open_session(
    command: str, role: Role = Role.READER, *, settings: Settings | None = None, autocommit: bool = True
) -> Iterator[Session]:
    """Open the database for a command.

    Args:
        command: its name, which psql then shows.
        role: as whom to connect.
        settings: read from the environment by default.
        autocommit: False for the steps of a load, which commit by themselves.

    Raises:
        DatabaseUnavailableError: it cannot be started or reached.
    """
    settings = settings or read_settings()
    with (
        open_database(settings) as database,
        database.connect(role, f"rakuten {command}", autocommit=autocommit) as connection,
    ):
        yield Session(settings, database, connection)
