"""Between the ears and the hands of a listener: rings collapse, and each batch remembers which ring was for it."""

import asyncio
import time
from collections import OrderedDict
from typing import Final

import structlog

from listeners.listen import WakeSource, WakeUp
from shared.events import InvalidPayloadError, parse

logger = structlog.get_logger()

# More batches than ever wait at once; a flood of forged notifications must not grow the memory.
_REMEMBERED: Final = 1024
# ... nor the log: at most one line in this time, which counts the others.
_LOG_INTERVAL_S: Final = 10.0


class Doorbell:
    """Any number of rings wake the worker once; a malformed notification is logged and rings nothing."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._first: WakeUp | None = None
        self._notified: OrderedDict[int, float] = OrderedDict()
        self._rejected = 0
        self._next_log_at = 0.0

    def ring(self, wake: WakeUp) -> None:
        """To be called on the event loop."""
        if wake.source is WakeSource.NOTIFY and not self._remember(wake):
            return
        self._first = self._first or wake
        self._rung.set()

    def interrupt(self) -> None:
        """End a wait without a reason to work: the process is to stop."""
        self._rung.set()

    async def wait(self, timeout_s: float | None) -> WakeUp | None:
        """The first ring since the last wait; after `timeout_s` a wake-up of its own; None when interrupted."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return WakeUp(WakeSource.RETRY, time.monotonic())
        self._rung.clear()
        wake, self._first = self._first, None
        return wake

    def notified(self) -> dict[int, float]:
        """Seconds since the notification that named a batch, by batch id, of those that were not forgotten since."""
        now = time.monotonic()
        return {batch_id: now - at for batch_id, at in self._notified.items()}

    def forget(self, batch_id: int) -> None:
        """The batch is claimed; its next notification will be another."""
        self._notified.pop(batch_id, None)

    def _remember(self, wake: WakeUp) -> bool:
        try:
            event = parse(wake.channel, wake.payload)
        except InvalidPayloadError as error:
            self._reject(wake, error)
            return False
        batch_id = getattr(event, "batch_id", None)
        if batch_id is not None:
            self._notified.setdefault(batch_id, wake.at)
        while len(self._notified) > _REMEMBERED:
            self._notified.popitem(last=False)
        return True

    def _reject(self, wake: WakeUp, error: InvalidPayloadError) -> None:
        """Log a rejected notification, with the number that were rejected since the last line."""
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
