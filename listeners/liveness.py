"""Tell a child process that works for long from a child process that stands still.

A child that works sends a sign of life to its listener every second, from a thread of its own. A long computation in C code
releases Python's interpreter lock, so the thread runs meanwhile. A frozen process sends no sign of life. Neither does a child
whose main thread is stuck in the operating system (state D), for example on a file server that is gone: in that state, the
other threads of the process still run, so the thread looks at the state of the main thread first.

Each sign of life says for how many seconds the child has used nearly no processor time, and Spark has finished no task for it. Such a child waits: for PostgreSQL,
for MLflow, for a lock. Waiting is honest work for minutes, but not for ever.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

BEAT_INTERVAL_S: Final = 1.0
# A child that waits for an answer wakes up ten times a second at most, which takes less than a thousandth of a processor. A
# child that computes takes more than this share, even on a machine with a high load.
_WORKING_SHARE: Final = 0.01


class Silence:
    """The seconds since the last sign of progress, as seen by somebody who calls `look` regularly.

    One look adds at most `longest_step_s`. So if the process of the observer was frozen itself (SIGSTOP, `docker pause`, a
    suspended machine), the time of the freeze does not count as a silence of the observed process.

    Attributes:
        ended_at: the time of the last sign of progress, from time.monotonic().
    """

    def __init__(self, longest_step_s: float) -> None:
        self._longest_step_s = longest_step_s
        self.end()

    def end(self) -> None:
        """Note a sign of progress: the count begins at zero again."""
        self.ended_at = self._looked_at = time.monotonic()
        self._seconds = 0.0

    def look(self) -> float:
        now = time.monotonic()
        self._seconds += min(now - self._looked_at, self._longest_step_s)
        self._looked_at = now
        return self._seconds


class Progress:
    """What a process has other processes do, such as Spark's. Its own processor time says nothing about this work."""

    def __init__(self) -> None:
        self.steps = 0

    def note(self) -> None:
        """Note that another process, which works for this process, has got further."""
        self.steps += 1


PROGRESS: Final = Progress()


def send_signs_of_life(send: Callable[[float], None], main_thread: Path | None = None) -> None:
    """Call `send` every second with the seconds for which this process has used nearly no processor time.

    Never return, except by an error of `send`. Call `send` not at all while the main thread is stuck in the operating system.

    Args:
        send: sends one sign of life to the listener.
        main_thread: the folder of the main thread in Linux's /proc. Other systems have no such folder; on them, a main thread
            that is stuck in the operating system counts as waiting.
    """
    main_thread = main_thread or Path(f"/proc/self/task/{os.getpid()}")
    idle, used_s, state, steps = Silence(2 * BEAT_INTERVAL_S), 0.0, "", 0
    while True:
        used_before_s, used_s = used_s, time.process_time()
        state_before, state = state, _uninterruptible_wait(main_thread)
        if used_s - used_before_s >= _WORKING_SHARE * BEAT_INTERVAL_S or steps != PROGRESS.steps:
            idle.end()
        steps = PROGRESS.steps
        if not state or state != state_before:
            send(idle.look())
        time.sleep(BEAT_INTERVAL_S)


def _uninterruptible_wait(thread: Path) -> str:
    """Identify the system call in which a thread is stuck (state D). Return an empty text if the thread is not in state D.

    The text contains the number of times that the thread has slept. A thread that reads from a busy disk is often in state D,
    but each time in another system call, so the number grows.
    """
    try:
        fields = dict(
            line.split(":", 1) for line in (thread / "status").read_text().splitlines() if ":" in line
        )
    except OSError:
        return ""
    return fields["voluntary_ctxt_switches"] if fields["State"].split()[0] == "D" else ""
