"""Temporary files that cannot be opened, as on a disk that breaks, for as long as a file says so.

Python calls an audit hook before it opens a file (PEP 578), and the hook may raise an error. Files that a library opens in C do not
pass the hook.
"""

import errno
import os
import sys
import tempfile
from pathlib import Path


def marker(directory: Path) -> Path:
    return directory / "broken files"


def patch(directory: Path) -> None:
    """Inject the fault into this process, if the directory holds the marker, until the marker is gone.

    A hook cannot be removed. It must not be there without need: Python also calls it in a thread that has no memory to run it.
    """
    broken, temporary = marker(directory), tempfile.gettempdir()
    if not broken.exists():
        return

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = os.fspath(arguments[0])
            if str(path).startswith(temporary) and broken.exists():
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    sys.addaudithook(hook)
