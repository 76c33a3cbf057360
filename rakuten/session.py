"""Open what a `rakuten` command needs: the settings, the database, MLflow, and a connection with a given database role."""

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
    """The settings, database and connection of one `rakuten` command. MLflow is opened at the first use of `tracking`."""

    settings: Settings
    database: Database
    connection: psycopg.Connection[TupleRow]

    @cached_property
    def tracking(self) -> "Tracking":
        """Return the client of the MLflow server or store that the settings name. The first call imports MLflow."""
        from listeners.tracking.runs import Tracking  # noqa: PLC0415  MLflow takes seconds to import

        return Tracking(self.settings)


@contextmanager
def open_session(
    command: str, role: Role = Role.READER, *, settings: Settings | None = None, autocommit: bool = True
) -> Iterator[Session]:
    """Open the database for a `rakuten` command, and yield the command's session. Close it at the end of the `with` block.

    Args:
        command: name of the command, for example "reproduce". PostgreSQL shows the connection as "rakuten reproduce".
        role: database role that the connection has; by default a role that can only read.
        settings: settings to use. By default they are read from the environment.
        autocommit: whether each statement commits at once. A load or a correction passes False and commits after each step.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be started or reached.
    """
    settings = settings or read_settings()
    with (
        open_database(settings) as database,
        database.connect(role, f"rakuten {command}", autocommit=autocommit) as connection,
    ):
        yield Session(settings, database, connection)
