"""The one place that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def poll(probe: Callable[[], Result], *, timeout_s: float, interval_s: float = 0.02) -> Result:
    """Call `probe` until its result is true; when the time is up, the last (false) result is returned."""
    deadline = time.monotonic() + timeout_s
    while not (result := probe()) and time.monotonic() < deadline:
        time.sleep(interval_s)
    return result
