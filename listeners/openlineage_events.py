"""The OpenLineage events of a stage's worker, told by a thread: neither the loop nor the work waits for them."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from shared.config import Settings
from shared.events import Stage
from shared.openlineage.emitter import BatchRecord, Emitter, JobName, State, Transition

# The child that has just been woken needs the processors more.
_START_TOLD_AFTER_S: Final = 0.05


class Attempt(NamedTuple):
    """A stage's attempt at a batch, which came with the claim as PostgreSQL has it."""

    batch: BatchRecord
    number: int


class StageEvents:
    """START for an attempt that was claimed, and one of the others for what became of it. No call waits or raises."""

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self._stage = stage
        self._emitter = Emitter(settings)
        self._start: Transition | None = None
        self._start_due: asyncio.TimerHandle | None = None

    def started(self, attempt: Attempt) -> None:
        self._tell_start()
        self._start = self._transition(State.START, attempt)
        self._start_due = asyncio.get_running_loop().call_later(_START_TOLD_AFTER_S, self._tell_start)

    def finished(self, attempt: Attempt, result: Mapping[str, Any]) -> None:
        self._tell_end(self._transition(State.COMPLETE, attempt, result=result))

    def failed(self, attempt: Attempt, reason: str) -> None:
        """The attempt counts as a failure of the batch."""
        self._tell_end(self._transition(State.FAIL, attempt, error=reason))

    def put_back(self, attempt: Attempt, reason: str) -> None:
        """The attempt ends through no fault of the batch, which will be taken up again, or has been."""
        self._tell_end(self._transition(State.ABORT, attempt, error=reason))

    async def close(self) -> None:
        """Wait until all is told."""
        self._tell_start()
        await asyncio.to_thread(self._emitter.close)

    def _tell_start(self) -> None:
        if self._start is not None and self._start_due is not None:
            self._start_due.cancel()
            self._emitter.emit(self._start)
        self._start = self._start_due = None

    def _tell_end(self, end: Transition) -> None:
        self._tell_start()
        self._emitter.emit(end)

    def _transition(
        self,
        state: State,
        attempt: Attempt,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Transition:
        job, now = JobName(self._stage), datetime.now(UTC)
        return Transition(job, state, now, attempt.batch, attempt.number, result or {}, error)
