"""Note what only a listener's own process knows: whether its connection receives notifications, and what its worker does."""

import time
from typing import Protocol

from listeners.listen import WakeSource, WakeUp
from shared.events import Stage


class Work(Protocol):
    """What the metrics ask the worker of a listener (listeners/worker.py)."""

    has_claim: bool
    fenced: int

    def child_silent_s(self) -> float:
        """Return the seconds since the last sign of life of the child process that works, or 0 if none works."""
        ...


class ProcessState:
    """The state of one listener process. The event loop writes it, and the threads that answer /metrics read it.

    Attributes:
        stage: the stage of the listener.
        work: the worker of the listener.
        reconnects: how often the listener has connected to PostgreSQL again after it lost the connection.
    """

    def __init__(self, stage: Stage, work: Work) -> None:
        self.stage, self.work = stage, work
        self.reconnects = 0
        self._alive_at = time.monotonic()

    def wake_up(self, wake: WakeUp) -> None:
        """Note a wake-up of the worker. Only those after a reconnect are counted."""
        self.reconnects += wake.source is WakeSource.RECONNECT

    def alive(self) -> None:
        """Note that LISTEN or a ping has shown that the connection receives notifications."""
        self._alive_at = time.monotonic()

    def ping_age_s(self) -> float:
        """Return the seconds since the last call of `alive`, or since the start."""
        return time.monotonic() - self._alive_at
