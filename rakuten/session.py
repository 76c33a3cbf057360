"""Open what a `rakuten` command needs: the settings, the database, MLflow, and a connection with a given database role."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import psycopg
import typer
from psycopg.rows import TupleRow

from db import batches
from db.database import Database, Role, open_database
from shared.config import Settings, read_settings
from shared.errors import PipelineError
from shared.events import Stage

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


def require_state(settings: Settings) -> None:
    """Raise a PipelineError if there is no embedded database, so that a command that only reads does not create one."""
    if not settings.postgres_path.exists():
        raise PipelineError(
            f"there is no database in {settings.state_path} (setting STATE_PATH)",
            remedy="set STATE_PATH to the folder of your pipeline, or POSTGRES_HOST to its server; or begin: rakuten demo",
        )


def warn_if_nobody_listens(settings: Settings) -> None:
    """Say on standard error which listeners do not run. Without them, a new batch gets no dataset or no model."""
    with open_session("listeners", settings=settings) as session:
        listening = batches.listening_stages(session.connection)
    if missing := [stage for stage in Stage if stage not in listening]:
        start = "rakuten up" if settings.postgres_host is None else f"rakuten listen {missing[0]}"
        typer.echo(
            f"no {' and no '.join(missing)} listener runs: the batch waits until you start it ({start})",
            err=True,
        )


@contextmanager
def open_session(
    command: str,
    role: Role = Role.READER,
    *,
    settings: Settings | None = None,
    autocommit: bool = True,
    create: bool = False,
) -> Iterator[Session]:
    """Open the database for a `rakuten` command, and yield the command's session. Close it at the end of the `with` block.

    Args:
        command: name of the command, for example "reproduce". PostgreSQL shows the connection as "rakuten reproduce".
        role: database role that the connection has; by default a role that can only read.
        settings: settings to use. By default they are read from the environment.
        autocommit: whether each statement commits at once. A load or a correction passes False and commits after each step.
        create: whether to create the embedded database if it does not exist. Only a load, and a command that runs the listeners,
            need it: every other command would have nothing to read.

    Raises:
        PipelineError: there is no embedded database, and `create` is False.
        DatabaseUnavailableError: PostgreSQL cannot be started or reached.
    """
    settings = settings or read_settings()
    if not create and settings.postgres_host is None:
        require_state(settings)
    with (
        open_database(settings) as database,
        database.connect(role, f"rakuten {command}", autocommit=autocommit) as connection,
    ):
        yield Session(settings, database, connection)
