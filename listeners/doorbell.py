"""Pass wake-ups from a listener's LISTEN task to its worker.

Several wake-ups count as one until the worker looks for batches. The doorbell remembers when each batch was first notified.
"""

import asyncio
import time
from collections import OrderedDict
from typing import Final

import structlog

from listeners.listen import WakeSource, WakeUp
from shared.events import InvalidPayloadError, parse

logger = structlog.get_logger()

# More batches than ever wait at once. The limit keeps a flood of forged notifications from filling the memory.
_MAX_REMEMBERED: Final = 1024
# At most one rejected notification per interval is logged, with the number of the others: a flood must not fill the log.
_LOG_INTERVAL_S: Final = 10.0


class Doorbell:
    """A signal that wakes the worker. Any number of rings wakes it once. A malformed notification is only logged."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._first: WakeUp | None = None
        self._notified: OrderedDict[int, float] = OrderedDict()
        self._rejected = 0
        self._next_log_at = 0.0

    def ring(self, wake: WakeUp) -> None:
        """Wake the worker. Call this on the event loop only: asyncio.Event is not thread-safe."""
        if wake.source is WakeSource.NOTIFY and not self._remember(wake):
            return
        self._first = self._first or wake
        self._rung.set()

    def interrupt(self) -> None:
        """End the worker's wait although there is no new work, because the process is to stop."""
        self._rung.set()

    async def wait(self, timeout_s: float | None) -> WakeUp | None:
        """Wait for a wake-up, and return the first one since the last wait.

        Return a wake-up with the source RETRY after `timeout_s`, and None after `interrupt`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return WakeUp(WakeSource.RETRY, time.monotonic())
        self._rung.clear()
        wake, self._first = self._first, None
        return wake

    def notified(self) -> dict[int, float]:
        """Return how many seconds ago each batch was first notified, by batch id. Forgotten batches are left out."""
        now = time.monotonic()
        return {batch_id: now - at for batch_id, at in self._notified.items()}

    def forget(self, batch_id: int) -> None:
        """Forget the notification of a batch that was claimed, so that its next notification counts as the first again."""
        self._notified.pop(batch_id, None)

    def _remember(self, wake: WakeUp) -> bool:
        """Remember when a notification's batch was first notified. Return False if the notification is malformed."""
        try:
            event = parse(wake.channel, wake.payload)
        except InvalidPayloadError as error:
            self._reject(wake, error)
            return False
        batch_id = getattr(event, "batch_id", None)
        if batch_id is not None:
            self._notified.setdefault(batch_id, wake.at)
        while len(self._notified) > _MAX_REMEMBERED:
            self._notified.popitem(last=False)
        return True

    def _reject(self, wake: WakeUp, error: InvalidPayloadError) -> None:
        """Log a rejected notification, with the number of rejected notifications since the last log line."""
        self._rejected += 1
        if (now := time.monotonic()) < self._next_log_at:
            return
        logger.warning(
            "notification rejected",
            channel=wake.channel,
            payload=wake.payload[:200],
            error=str(error),
            count=self._rejected,
        )
        self._rejected, self._next_log_at = 0, now + _LOG_INTERVAL_S
