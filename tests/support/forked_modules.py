"""Which modules a listener's child has from the moment when it is forked."""

import asyncio
import multiprocessing
import sys

from listeners.child import warm_up


def loaded_after_fork(handler):
    """Fork a process as a listener of `handler` does. Call this in a process that has no fork server yet."""
    asyncio.run(warm_up(handler))
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        return pool.apply(_loaded)


def _loaded():
    return set(sys.modules)
