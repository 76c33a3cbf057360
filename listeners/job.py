"""Define what a listener hands to a child process: a `Task` for a stage, or a `Job`, which is a task for one batch."""

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
    """Everything that a child process needs for its work. `handler` names the module whose `handle(task)` does the work."""

    stage: Stage
    conninfo: str = field(repr=False)  # contains a password, so repr leaves it out
    settings: Settings
    handler: str


@dataclass(frozen=True)
class Job(Task):
    """A task for one batch. `attempt` counts the stage's claims of this batch, so each new claim has a higher number."""

    batch: Batch
    attempt: int

    def require_claim(self) -> None:
        """Ask PostgreSQL whether this attempt still holds its claim on the batch. Call this before anything is published.

        Raises:
            FencedError: another worker has claimed the batch in the meantime, or the batch is finished.
        """
        with self._connected() as connection:
            row = connection.execute(
                "select holds_stage(%s, %s, %s)", [self.batch.id, self.stage, self.attempt]
            ).fetchone()
        if row is None or not row[0]:
            raise FencedError(
                f"attempt {self.attempt} of the {self.stage} stage lost its claim on batch {self.batch.id}"
            )

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """Connect to PostgreSQL. Retry during an outage: a restart of PostgreSQL must not waste minutes of finished work."""
        with ExitStack() as stack:
            retrying = Retrying(retry=retry_if_exception_type(DatabaseUnavailableError), wait=BACKOFF)
            yield retrying(lambda: stack.enter_context(connect(self.conninfo, f"rakuten {self.stage} fence")))


# A handler runs a task and returns a result that can be written as JSON. If the task is a Job, PostgreSQL records this result,
# and the result contains at least `run_id`, the id of the MLflow run.
Handler = Callable[[Any], dict[str, Any]]


def handler_module(stage: Stage) -> str:
    return f"listeners.{stage}.handle"
