"""What a child process is given to do: a task for a stage, for most of them with a batch."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from tenacity import Retrying, retry_if_exception_type

from db.connect import BACKOFF, connect
from shared.batch import Batch
from shared.config import Settings
from shared.errors import DatabaseUnavailableError, FencedError
from shared.events import Stage


@dataclass(frozen=True)
class Task:
    """All that a child needs to know. `handler` names the module whose `handle(task)` does the work."""

    stage: Stage
    conninfo: str = field(repr=False)  # it holds a password
    settings: Settings
    handler: str


@dataclass(frozen=True)
class Job(Task):
    """One batch for one stage, under one attempt number."""

    batch: Batch
    attempt: int

    def require_claim(self) -> None:
        """Ask PostgreSQL whether this attempt still holds its claim. Call it before anything is published.

        Raises:
            FencedError: another worker has claimed the batch since, or it was finished.
        """
        with self._connected() as connection:
            row = connection.execute(
                "select holds_stage(%s, %s, %s)", [self.batch.id, self.stage, self.attempt]
            ).fetchone()
        if row is None or not row[0]:
            raise FencedError(
                f"attempt {self.attempt} of {self.stage} on batch {self.batch.id} lost its claim"
            )

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """Connect, and wait for PostgreSQL if need be: the work of minutes is not thrown away for a restart of the server."""
        with ExitStack() as stack:
            retrying = Retrying(retry=retry_if_exception_type(DatabaseUnavailableError), wait=BACKOFF)
            yield retrying(lambda: stack.enter_context(connect(self.conninfo, f"rakuten {self.stage} fence")))


# A handler does a task and returns what is recorded: JSON, for a batch with at least `run_id`.
Handler = Callable[[Any], dict[str, Any]]


def handler_module(stage: Stage) -> str:
    return f"listeners.{stage}.handle"
