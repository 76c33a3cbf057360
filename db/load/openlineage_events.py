"""The OpenLineage events of a load. They say what `data_loads` says, so that they are right whoever ran which of its steps.

A load or a correction that is refused before it has claimed a batch is none in `data_loads`, and so no event either.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog

from db.batches import read_batch
from shared.batch import Batch
from shared.config import Settings
from shared.openlineage.emitter import Emitter, JobName, State, Transition

logger = structlog.get_logger()


class LoadRun:
    """The load of one batch, as far as this process has a part in it."""

    def __init__(
        self, connection: psycopg.Connection[Any], emitter: Emitter, batch_id: int | None = None
    ) -> None:
        self._connection = connection
        self._emitter = emitter
        self._batch_id = batch_id
        self._is_ours = False

    def started(self, batch_id: int) -> None:
        """The batch has been claimed, and the claim is committed."""
        self._batch_id, self._is_ours = batch_id, True
        if (batch := self._batch()) is not None:
            self._emit(State.START, batch.started_at, batch)

    def ended(self, error: BaseException | None) -> None:
        """Say how the load has ended, if the tables say that it has."""
        if (batch := self._batch()) is None:
            return
        now = datetime.now(UTC)
        if batch.completed_at is not None:
            self._emit(State.COMPLETE, batch.completed_at, batch)
        elif batch.status == "failed":
            reason = batch.metadata.get("load", {}).get("error")
            self._emit(State.FAIL, now, batch, reason)
        elif error is not None and self._is_ours:
            # whoever takes the batch up claims it anew, and that is another run
            reason = str(error) or type(error).__name__
            self._emit(State.ABORT, now, batch, reason)

    def _emit(self, state: State, at: datetime, batch: Batch, error: str | None = None) -> None:
        server_version = self._connection.info.parameter_status("server_version") or ""
        self._emitter.emit(
            Transition(JobName.LOAD, state, at, batch, error=error, server_version=server_version)
        )

    def _batch(self) -> Batch | None:
        if self._batch_id is None or not self._emitter.enabled:
            return None
        try:
            self._connection.rollback()  # a statement that failed would let none follow
            batch = read_batch(self._connection, self._batch_id)
            self._connection.rollback()
        except (psycopg.Error, LookupError) as error:
            logger.warning("no OpenLineage event: the batch cannot be read", error=str(error).strip())
            return None
        return batch


@contextmanager
def reported(
    connection: psycopg.Connection[Any], settings: Settings, batch_id: int | None = None
) -> Iterator[LoadRun]:
    """Report the steps of a load that are taken in the block, on the connection that takes them.

    Args:
        connection: each step has committed or rolled back what it did when it returns.
        settings: say where the events go.
        batch_id: where an earlier process has claimed the batch; whoever claims it in the block calls `started`.
    """
    with Emitter(settings) as emitter:
        run = LoadRun(connection, emitter, batch_id)
        try:
            yield run
        except BaseException as error:
            run.ended(error)
            raise
        run.ended(None)
