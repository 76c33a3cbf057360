"""The OpenLineage events of a stage's worker, told by a thread: neither the loop nor the work waits for them."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from listeners.claims import Claim
from shared.config import Settings
from shared.events import Stage
from shared.openlineage.emitter import Emitter, JobName, State, Transition

# The child that has just been woken needs the processors more.
_START_TOLD_AFTER_S: Final = 0.05


class StageEvents:
    """START for an attempt that was claimed, and one of the others for what became of it. No call waits or raises."""

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self._stage = stage
        self._emitter = Emitter(settings)
        self._start: Transition | None = None
        self._start_due: asyncio.TimerHandle | None = None

    def started(self, claim: Claim) -> None:
        self._tell_start()
        self._start = self._transition(State.START, claim)
        self._start_due = asyncio.get_running_loop().call_later(_START_TOLD_AFTER_S, self._tell_start)

    def finished(self, claim: Claim, result: Mapping[str, Any]) -> None:
        self._tell_end(self._transition(State.COMPLETE, claim, result=result))

    def failed(self, claim: Claim, reason: str) -> None:
        """The attempt counts as a failure of the batch."""
        self._tell_end(self._transition(State.FAIL, claim, error=reason))

    def put_back(self, claim: Claim, reason: str) -> None:
        """The attempt ends through no fault of the batch, which will be taken up again, or has been."""
        self._tell_end(self._transition(State.ABORT, claim, error=reason))

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
        claim: Claim,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Transition:
        job, now = JobName(self._stage), datetime.now(UTC)
        return Transition(job, state, now, claim.batch, claim.attempt, result or {}, error)
