"""The OpenLineage events of a stage's worker, looked up and told by a thread: neither the loop nor the work waits for them."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog

from db.connect import connect
from db.load_events import read_batch
from listeners.job import Batch
from shared.config import Settings
from shared.errors import DatabaseUnavailableError
from shared.events import Stage
from shared.lineage_events import BatchRecord, Emitter, JobName, State, Transition

logger = structlog.get_logger()


class StageEvents:
    """START for a batch that was claimed, and one of the others for what became of it. No call waits or raises."""

    def __init__(self, stage: Stage, conninfo: str, settings: Settings) -> None:
        self._stage = stage
        self._conninfo = conninfo
        self._emitter = Emitter(settings)
        # of the batches that are worked on; only the emitter's thread looks at them
        self._records: dict[int, BatchRecord] = {}

    def started(self, batch: Batch) -> None:
        self._tell(State.START, batch)

    def finished(self, batch: Batch, result: Mapping[str, Any]) -> None:
        self._tell(State.COMPLETE, batch, result=result)

    def failed(self, batch: Batch, reason: str) -> None:
        """The attempt counts as a failure of the batch."""
        self._tell(State.FAIL, batch, error=reason)

    def put_back(self, batch: Batch, reason: str) -> None:
        """The attempt ends through no fault of the batch, which will be taken up again, or has been."""
        self._tell(State.ABORT, batch, error=reason)

    async def close(self) -> None:
        """Wait until all is told."""
        await asyncio.to_thread(self._emitter.close)

    def _tell(
        self,
        state: State,
        batch: Batch,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        moment = datetime.now(UTC)

        def find() -> Transition | None:
            try:
                record = self._record(batch.batch_id)
            except (psycopg.Error, DatabaseUnavailableError, LookupError) as unread:
                logger.warning("no OpenLineage event: the batch cannot be read", error=str(unread).strip())
                return None
            if state is not State.START:
                del self._records[batch.batch_id]
            return Transition(JobName(self._stage), state, moment, record, batch.attempt, result or {}, error)

        self._emitter.emit_found(find)

    def _record(self, batch_id: int) -> BatchRecord:
        if batch_id not in self._records:
            with connect(self._conninfo, f"rakuten {self._stage} lineage") as connection:
                self._records[batch_id] = read_batch(connection, batch_id)
        return self._records[batch_id]
