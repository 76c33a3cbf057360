"""Waiting for a condition, with a deadline: tests never sleep for a fixed time."""

import asyncio
import time

DEADLINE_S = 60.0
INTERVAL_S = 0.02


def eventually(condition, deadline_s=DEADLINE_S, *, report=lambda: "", check=lambda: None):
    """Return the condition's first true value. Fail with `report()` after the deadline; `check()` may fail earlier."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        check()
        assert time.monotonic() < deadline, f"it did not happen within {deadline_s} s: {report()}"
        time.sleep(INTERVAL_S)
    return value


async def until(condition, deadline_s=DEADLINE_S):
    """Return the condition's first true value, while the event loop goes on."""
    async with asyncio.timeout(deadline_s):
        while not (value := condition()):  # noqa: ASYNC110  another process makes it true
            await asyncio.sleep(INTERVAL_S)
        return value
