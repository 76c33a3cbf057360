"""Emit the OpenLineage events of a load.

An event is built from the batch's row in the table `data_loads`. So different processes may run different steps of one load.

A load or correction that is rejected before it claims a batch has no row in `data_loads`, so it emits no event.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog

from db.batches import read_batch
from shared.batch import Batch
from shared.openlineage.emitter import Emitter, JobName, State, Transition

logger = structlog.get_logger()


class LoadRun:
    """The load of one batch, or the part of it that runs in this process. The methods emit its OpenLineage events."""

    def __init__(
        self, connection: psycopg.Connection[Any], emitter: Emitter, batch_id: int | None = None
    ) -> None:
        self._connection = connection
        self._emitter = emitter
        self._batch_id = batch_id
        self._claimed_here = False

    def started(self, batch_id: int) -> None:
        """Emit the event START. Call this method after this process has claimed the batch and committed the claim."""
        self._batch_id, self._claimed_here = batch_id, True
        if (batch := self._batch()) is not None:
            self._emit(State.START, batch.started_at, batch)

    def ended(self, error: BaseException | None) -> None:
        """Emit the event that fits the batch's status in the table `data_loads`: COMPLETE for completed, FAIL for failed.

        Several processes can run the steps of one load: in Airflow, each task has its own process. So if the status is still
        running, emit ABORT only if this process claimed the batch and raised `error`. Otherwise emit nothing: the next step may
        follow in another process.
        """
        if (batch := self._batch()) is None:
            return
        now = datetime.now(UTC)
        if batch.completed_at is not None:
            self._emit(State.COMPLETE, batch.completed_at, batch)
        elif batch.status == "failed":
            reason = batch.metadata.get("load", {}).get("error")
            self._emit(State.FAIL, now, batch, reason)
        elif error is not None and self._claimed_here:
            # ABORT ends the OpenLineage run. To continue the load, a process claims the batch again, and this starts a new run.
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
            self._connection.rollback()  # a load step may have left a failed transaction, which rejects every query
            batch = read_batch(self._connection, self._batch_id)
            self._connection.rollback()
        except (psycopg.Error, LookupError) as error:
            logger.warning("no OpenLineage event: the batch cannot be read", error=str(error).strip())
            return None
        return batch


@contextmanager
def emit_load_events(
    connection: psycopg.Connection[Any], emitter: Emitter, batch_id: int | None = None
) -> Iterator[LoadRun]:
    """Emit the OpenLineage events of the load steps that run in the `with` block.

    Args:
        connection: the connection that runs the steps. Each step commits or rolls back before it returns.
        emitter: the writer of the events.
        batch_id: id of the batch, if it is already claimed. None if the block claims a batch and then calls `LoadRun.started`.
    """
    run = LoadRun(connection, emitter, batch_id)
    try:
        yield run
    except BaseException as error:
        run.ended(error)
        raise
    run.ended(None)
