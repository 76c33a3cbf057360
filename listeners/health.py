"""Does a listener make progress? Its loop leaves a heartbeat in a file, and this check looks at it.

    python -m listeners.health snapshot      exit code 0: it does; 1: it does not, and why

The file's modification time lies ahead: it says until when the listener counts as alive, so the check needs no settings.
It imports nothing heavy, as a container runs it all the time. The file is in the temporary folder (TMPDIR), which replicas
on one machine do not share if each is to be told apart.
"""

import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path


class Heartbeat:
    """Written by a listener after each proof that it hears."""

    def __init__(self, stage: str, good_for_s: float) -> None:
        self._path = _path(stage)
        self._good_for_s = good_for_s

    def beat(self) -> None:
        """Count as alive for another while. A listener that cannot write works on; the check will say so."""
        until = time.time() + self._good_for_s
        with suppress(OSError):
            self._path.touch(mode=0o644)
            os.utime(self._path, (until, until))

    def end(self) -> None:
        with suppress(OSError):
            self._path.unlink()


def problem(stage: str) -> str | None:
    """Why the listener of this stage does not count as alive; None when it does."""
    try:
        until = _path(stage).stat().st_mtime
    except OSError:
        return f"the {stage} listener has not listened yet, or has ended: no {_path(stage)}"
    overdue_s = time.time() - until
    if overdue_s > 0:
        return f"the {stage} listener is deaf, cut off or stuck: its heartbeat is {overdue_s:.0f} s overdue"
    return None


def _path(stage: str) -> Path:
    return Path(tempfile.gettempdir()) / f"rakuten-{stage}.alive"


if __name__ == "__main__":
    sys.exit(problem(*sys.argv[1:]))
