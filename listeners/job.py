"""What a child process is given to do: one batch for one stage, and how that batch is known in MLflow."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import TupleRow
from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

from db.connect import connect
from db.sql import query
from shared.config import Settings
from shared.errors import DatabaseUnavailableError, FencedError, StageError
from shared.events import Stage
from shared.mlflow_names import TAG_BATCH_COMPLETED_AT, TAG_BATCH_ID, TAG_SOURCE_SHA256

_RECONNECT_FIRST_S = 0.1
_RECONNECT_MAX_S = 5.0


@dataclass(frozen=True)
class Task:
    """All that a child needs to know. `handler` names the module whose `handle(task)` does the work."""

    stage: Stage
    conninfo: str = field(repr=False)  # it holds a password
    settings: Settings
    handler: str


class Batch(NamedTuple):
    """A claimed batch, as it is handed to a child."""

    batch_id: int
    batch_name: str
    attempt: int


@dataclass(frozen=True)
class Job(Task):
    """One batch for one stage."""

    batch_id: int
    batch_name: str
    attempt: int

    def identity(self) -> "BatchIdentity":
        """What the batch is known by in MLflow."""
        with self._connected("identity") as connection:
            row = connection.execute(query("batch_identity"), {"batch_id": self.batch_id}).fetchone()
        if row is None:
            raise StageError(f"batch {self.batch_id} does not exist")
        return BatchIdentity(self.batch_id, *row)

    def require_claim(self) -> None:
        """Ask PostgreSQL whether this attempt still holds its claim; to be asked before anything is published.

        Raises:
            FencedError: another worker has claimed the batch since, or it was finished.
        """
        with self._connected("fence") as connection:
            row = connection.execute(
                "select holds_stage(%s, %s, %s)", [self.batch_id, self.stage, self.attempt]
            ).fetchone()
        if row is None or not row[0]:
            raise FencedError(
                f"attempt {self.attempt} of {self.stage} on batch {self.batch_id} lost its claim"
            )

    @contextmanager
    def _connected(self, purpose: str) -> Iterator[psycopg.Connection[TupleRow]]:
        """A connection, waited for if need be: the work of minutes is not thrown away for a restart of PostgreSQL."""
        with ExitStack() as stack:
            retrying = Retrying(
                retry=retry_if_exception_type(DatabaseUnavailableError),
                wait=wait_random_exponential(multiplier=_RECONNECT_FIRST_S, max=_RECONNECT_MAX_S),
            )
            yield retrying(
                lambda: stack.enter_context(connect(self.conninfo, f"rakuten {self.stage} {purpose}"))
            )


@dataclass(frozen=True)
class BatchIdentity:
    """A batch as MLflow knows it: its id, the moment of its completion, and the source that the first load came from.

    The id alone would not do: ids begin at 1 again in a database that was made anew beside an MLflow that was kept.
    `week` is the last week whose rows the batch holds; a correction holds those of the week before it. `seal` is what the
    batch was sealed with (db/sql/schema/025_seals.sql).
    """

    batch_id: int
    completed_at: str
    source: dict[str, Any]
    week: int
    seal: str

    @property
    def batch_tags(self) -> dict[str, str]:
        """The tags that only this batch's runs carry."""
        return {TAG_BATCH_ID: str(self.batch_id), TAG_BATCH_COMPLETED_AT: self.completed_at}

    @property
    def source_tags(self) -> dict[str, str]:
        """The tag of what depends on the source alone: the fixed sets."""
        canonical = json.dumps(self.source, sort_keys=True).encode()
        return {TAG_SOURCE_SHA256: hashlib.sha256(canonical).hexdigest()}


# A handler does a task and returns what is recorded: JSON, for a batch with at least `run_id`.
Handler = Callable[[Any], dict[str, Any]]


def handler_module(stage: Stage) -> str:
    return f"listeners.{stage}.handle"
