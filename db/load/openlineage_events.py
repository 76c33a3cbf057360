"""Emit the OpenLineage events of a load.

The content of the events comes from the table `data_loads`. So different processes may run different steps of one load.

A load or correction that is rejected before it claims a batch is not in `data_loads`. It emits no event.
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
    """One batch's load, or the steps of it that this process runs. The methods emit its OpenLineage events."""

    def __init__(
        self, connection: psycopg.Connection[Any], emitter: Emitter, batch_id: int | None = None
    ) -> None:
        self._connection = connection
        self._emitter = emitter
        self._batch_id = batch_id
        self._claimed_here = False

    def started(self, batch_id: int) -> None:
        """Emit the event START. Call this method when this process has claimed the batch and committed the claim."""
        self._batch_id, self._claimed_here = batch_id, True
        if (batch := self._batch()) is not None:
            self._emit(State.START, batch.started_at, batch)

    def ended(self, error: BaseException | None) -> None:
        """Emit the event COMPLETE or FAIL if the batch is completed or failed in `data_loads`.

        Otherwise, emit ABORT if this process claimed the batch and `error` has ended the load. Otherwise, emit nothing.
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
            # End this run: whoever continues the batch claims it again, and each claim is a new OpenLineage run.
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
            self._connection.rollback()  # end a failed transaction: it would reject the next statement
            batch = read_batch(self._connection, self._batch_id)
            self._connection.rollback()
        except (psycopg.Error, LookupError) as error:
            logger.warning("no OpenLineage event: the batch cannot be read", error=str(error).strip())
            return None
        return batch


@contextmanager
def emit_load_events(
    connection: psycopg.Connection[Any], settings: Settings, batch_id: int | None = None
) -> Iterator[LoadRun]:
    """Emit the OpenLineage events of the load steps that run in the block.

    Args:
        connection: the connection that runs the steps. Each step commits or rolls back before it returns.
        settings: the settings that say where the events go.
        batch_id: the batch, if it was claimed earlier. Otherwise None: the block claims a batch, then calls `started`.
    """
    with Emitter(settings) as emitter:
        run = LoadRun(connection, emitter, batch_id)
        try:
            yield run
        except BaseException as error:
            run.ended(error)
            raise
        run.ended(None)
