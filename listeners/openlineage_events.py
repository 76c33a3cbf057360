"""Emit the OpenLineage events of a worker, which works on batches for one stage.

The emitter writes the events in a thread, so neither the listener's event loop nor the work on a batch waits for them.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from listeners.claims import Claim
from shared.config import Settings
from shared.events import Stage
from shared.openlineage.emitter import Emitter, JobName, State, Transition


class StageEvents:
    """The OpenLineage events of a stage: START when a batch is claimed, and one event for the outcome of the attempt.

    Only `close` waits until the events are written. No method raises an error.
    """

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self._job = JobName(stage)
        self._emitter = Emitter(settings)

    def started(self, claim: Claim) -> None:
        self._emit(State.START, claim)

    def finished(self, claim: Claim, result: Mapping[str, Any]) -> None:
        self._emit(State.COMPLETE, claim, result=result)

    def failed(self, claim: Claim, reason: str) -> None:
        """Emit the OpenLineage event FAIL for an attempt that failed because of its batch, not because of an outage."""
        self._emit(State.FAIL, claim, error=reason)

    def aborted(self, claim: Claim, reason: str) -> None:
        """Emit the event ABORT for an attempt that ended without a result, for example because of an outage.

        Such an attempt does not count as a failure of its batch. Another attempt follows or has already started.
        """
        self._emit(State.ABORT, claim, error=reason)

    async def close(self) -> None:
        """Wait until the emitter has written the events. `Emitter.close` limits the waiting time."""
        await asyncio.to_thread(self._emitter.close)

    def _emit(
        self, state: State, claim: Claim, *, result: Mapping[str, Any] | None = None, error: str | None = None
    ) -> None:
        now = datetime.now(UTC)
        self._emitter.emit(Transition(self._job, state, now, claim.batch, claim.attempt, result or {}, error))
