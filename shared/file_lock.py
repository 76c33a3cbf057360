"""Lock a file, so that only one process at a time does something. Give up after a deadline, and say who holds the lock."""

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from shared.errors import OutageError

_INTERVAL_S: Final = 0.02


class FileLockedError(OutageError):
    """Another process, the `holder`, holds the lock on a file for longer than this process waits."""

    holder = "another process"


@contextmanager
def file_lock(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock on the file `path` for a `with` block. The file contains the name of the process that holds the lock.

    If the process that holds the lock dies, the operating system releases the lock at once.

    Raises:
        FileLockedError: another process still holds the lock after `timeout_s` seconds. The message names this process.
        OSError: the file cannot be created or opened.
    """
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + timeout_s
        while not _try_to_lock(file.fileno()):
            if time.monotonic() > deadline:
                file.seek(0)
                holder = file.read().strip() or FileLockedError.holder
                error = FileLockedError(
                    f"{holder} has held the lock {path} for more than {timeout_s:.0f} s",
                    remedy="wait until that process ends; if it is frozen, end it (kill -9): this releases the lock",
                )
                error.holder = holder
                raise error
            time.sleep(_INTERVAL_S)
        with suppress(OSError):  # a full disk must not keep this process from its work
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), _name_of_this_process().encode())
        yield


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _name_of_this_process() -> str:
    """Return for example `process 4711 on host-a (rakuten doctor)`."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
    return f"process {os.getpid()} on {socket.gethostname()} ({command})\n"
