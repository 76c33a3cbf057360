"""Stop a listener at a step boundary from outside, so that a fault meets it just there.

A test sets a breakpoint: a file in a directory that it shares with the processes. The first process to come to that boundary
renames the file, which says that it is there and who it is, and waits until the file is gone. The fault itself comes from
outside, as in life: the process is the real one and merely stands still.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from waiting import eventually

DIRECTORY = "BREAKPOINTS"  # the variables by which a process finds the directory and its listener
LISTENER_PID = "LISTENER_PID"
DEADLINE_S = 120
INTERVAL_S = 0.005


class Boundary(StrEnum):
    """The steps of a stage, in order, and two that only training has."""

    BEFORE_CLAIM = "before the claim"
    AFTER_CLAIM = "after the claim"
    BUILDING = "while building"
    LOGGED = "after logging"
    RUN_FINISHED = "after finishing the run"
    REGISTERING = "before registering the model"
    REGISTERED = "after registering the model"
    BEFORE_COMMIT = "between MLflow and the commit"
    AFTER_COMMIT = "after the commit"


ONLY_TRAINING = {Boundary.REGISTERING, Boundary.REGISTERED}


@dataclass(frozen=True)
class Held:
    """A process that stands at a boundary. `pid` is its own: the listener's, or that of its child."""

    listener_pid: int
    pid: int
    path: Path

    def release(self) -> None:
        self.path.unlink(missing_ok=True)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Breakpoint:
    """What a test holds in its hands."""

    def __init__(self, directory: Path, stage: str, boundary: Boundary):
        self._prefix = f"{stage} {boundary}"
        self._armed = directory / self._prefix
        self._armed.touch()

    def wait(self, deadline_s: float = DEADLINE_S) -> Held:
        """The process that has come to the boundary."""
        return eventually(self._held, deadline_s, report=lambda: f"nobody came to: {self._prefix}")

    def _held(self) -> Held | None:
        for path in self._armed.parent.glob(f"{self._prefix} *.held"):
            listener_pid, pid = path.stem.removeprefix(self._prefix).split()
            return Held(int(listener_pid), int(pid), path)
        return None

    def clear(self) -> None:
        self._armed.unlink(missing_ok=True)
        if held := self._held():
            held.release()


@contextmanager
def breakpoint_at(directory: Path, stage: str, boundary: Boundary) -> Iterator[Breakpoint]:
    """A breakpoint until the end of the block; whoever still stands there then goes on."""
    made = Breakpoint(directory, stage, boundary)
    try:
        yield made
    finally:
        made.clear()


def pause_at(stage: str, boundary: Boundary) -> None:
    """Called by the process: stand here if there is a breakpoint."""
    if held := _hold(stage, boundary):
        while held.exists():
            time.sleep(INTERVAL_S)


async def pause_loop_at(stage: str, boundary: Boundary) -> None:
    """The same on an event loop, which goes on meanwhile."""
    if held := _hold(stage, boundary):
        while held.exists():  # noqa: ASYNC110  what is awaited happens in another process
            await asyncio.sleep(INTERVAL_S)


def _hold(stage: str, boundary: Boundary) -> Path | None:
    directory = Path(os.environ[DIRECTORY])  # noqa: TID251
    armed = directory / f"{stage} {boundary}"
    held = directory / f"{armed.name} {os.environ[LISTENER_PID]} {os.getpid()}.held"  # noqa: TID251
    try:
        armed.rename(held)  # one of several replicas wins
    except FileNotFoundError:
        return None
    return held
