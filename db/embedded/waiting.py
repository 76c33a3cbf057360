"""Wait until a condition is true, for example until a started PostgreSQL server answers."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def poll(probe: Callable[[], Result], *, timeout_s: float, interval_s: float = 0.02) -> Result:
    """Call `probe` every `interval_s` seconds until its result is true or `timeout_s` is over. Return its last result."""
    deadline = time.monotonic() + timeout_s
    while not (result := probe()) and time.monotonic() < deadline:
        time.sleep(interval_s)
    return result
