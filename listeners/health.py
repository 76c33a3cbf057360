"""Check whether a listener is alive, by its heartbeat file.

    python -m listeners.health snapshot      exit code 0: the listener is alive; 1: it is not, and the output says why

The listener sets the file's modification time to a time in the future. Until that time, the listener counts as alive. So the
check need not know how often the listener renews the file. The check imports no heavy library, because a container runs it
every few seconds.

The file is in the temporary folder (TMPDIR). Two listeners of one stage on one machine need separate temporary folders.
Otherwise they share one file, and the check cannot tell which of them is alive.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Heartbeat:
    """The file with which a listener shows that it is alive.

    The listener calls `beat` each time LISTEN or a ping has shown that the connection to PostgreSQL works. `is_responsive`
    tells whether the listener's worker waits for a batch or makes progress.
    """

    def __init__(
        self, stage: str, valid_for_s: float, is_responsive: Callable[[], bool] = lambda: True
    ) -> None:
        self._path = _path(stage)
        self._valid_for_s = valid_for_s
        self._is_responsive = is_responsive

    def beat(self) -> None:
        """Mark the listener as alive for the next `valid_for_s` seconds, unless its worker is unresponsive.

        If the file cannot be written, the listener goes on. The health check then reports that the heartbeat is overdue.
        """
        if not self._is_responsive():
            return
        until = time.time() + self._valid_for_s
        with suppress(OSError):
            self._path.touch(mode=0o644)
            os.utime(self._path, (until, until))

    def end(self) -> None:
        with suppress(OSError):
            self._path.unlink()


def problem(stage: str) -> str | None:
    """Return why the listener of a stage (snapshot or training) does not count as alive, or None if it counts as alive."""
    try:
        until = _path(stage).stat().st_mtime
    except OSError:
        return f"the {stage} listener has not listened yet, or has ended: {_path(stage)} does not exist"
    overdue_s = time.time() - until
    if overdue_s > 0:
        return (
            f"the {stage} listener is unresponsive or disconnected, or its work stands still: "
            f"its heartbeat is {overdue_s:.0f} s overdue"
        )
    return None


def _path(stage: str) -> Path:
    return Path(tempfile.gettempdir()) / f"rakuten-{stage}.alive"


if __name__ == "__main__":
    sys.exit(problem(*sys.argv[1:]))
