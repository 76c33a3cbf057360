"""Wake the worker of a listener when the listener receives a notification.

The worker then looks for batches to process. If several notifications arrive before it looks, they wake the worker only once.
A `Doorbell` also remembers when the first notification of each batch arrived.
"""

import asyncio
import time
from collections import OrderedDict
from typing import Final

import structlog

from listeners.listen import WakeSource, WakeUp
from shared.events import InvalidPayloadError, parse

logger = structlog.get_logger()

# The maximum number of batches whose arrival times the doorbell remembers. In practice, fewer batches wait at the same time.
# The limit keeps a flood of forged notifications from filling the memory.
_MAX_REMEMBERED: Final = 1024
# Log at most one rejected notification per interval, so that a flood cannot fill the log. The log line also says how many
# notifications were rejected since the line before.
_LOG_INTERVAL_S: Final = 10.0


class Doorbell:
    """A signal that wakes the worker. Several calls of `ring` wake it only once.

    If a notification is malformed, it is logged and does not wake the worker.
    """

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._first: WakeUp | None = None
        self._notified: OrderedDict[int, float] = OrderedDict()
        self._rejected = 0
        self._next_log_at = 0.0

    def ring(self, wake: WakeUp) -> None:
        """Wake the worker, unless `wake` is a malformed notification. Call it only on the event loop: it is not thread-safe."""
        if wake.source is WakeSource.NOTIFY and not self._remember(wake):
            return
        self._first = self._first or wake
        self._rung.set()

    def interrupt(self) -> None:
        """End the worker's call of `wait` although there is no new work, because the process was asked to stop."""
        self._rung.set()

    async def wait(self, timeout_s: float, at_timeout: WakeSource = WakeSource.RETRY) -> WakeUp | None:
        """Wait for a wake-up. If several have arrived since the last call of `wait`, return the first of them.

        If none arrives within `timeout_s`, return a wake-up with the source `at_timeout`. If `interrupt` ends the wait, return
        None.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return WakeUp(at_timeout, time.monotonic())
        self._rung.clear()
        wake, self._first = self._first, None
        return wake

    def notified(self) -> dict[int, float]:
        """Return the seconds since the first notification of each batch that the doorbell remembers, by batch id."""
        now = time.monotonic()
        return {batch_id: now - at for batch_id, at in self._notified.items()}

    def forget(self, batch_id: int) -> None:
        """Discard the arrival time of a batch's first notification, because the worker has claimed the batch."""
        self._notified.pop(batch_id, None)

    def _remember(self, wake: WakeUp) -> bool:
        """Remember the arrival time of a batch's first notification. Return False if the notification `wake` is malformed."""
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
        """Count a malformed notification. At most once per _LOG_INTERVAL_S, log it with the count since the last log line."""
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
