"""Temporary files that cannot be opened, as on a disk that breaks, for as long as a file says so.

Python tells a hook of every file that it opens (PEP 578), and the hook may raise. Files that a library opens in C are not told.
"""

import errno
import os
import sys
import tempfile
from pathlib import Path


def marker(directory: Path) -> Path:
    return directory / "broken files"


def patch(directory: Path) -> None:
    """Let this process meet the fault whenever the directory holds the marker."""
    broken, temporary = marker(directory), tempfile.gettempdir()

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = os.fspath(arguments[0])
            if str(path).startswith(temporary) and broken.exists():
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    sys.addaudithook(hook)
