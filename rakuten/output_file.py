"""Write the file that a user names with --out: a new file, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TextIO

from shared.errors import BadInputError


def require_new(path: Path) -> None:
    """Check that there is no such file yet, so that a command overwrites nothing.

    Raises:
        BadInputError: there is such a file, or a folder.
    """
    if path.exists():
        raise BadInputError(f"{path} exists already", remedy="delete it, or choose another name for --out")


def require_folder(path: Path) -> None:
    """Check that a file of this name can be in its folder, before a command works for seconds.

    Raises:
        BadInputError: the path is itself a folder, or its folder does not exist.
    """
    if path.is_dir():
        raise BadInputError(f"{path} is a folder", remedy=f"name a file: --out {path / 'report.html'}")
    if not path.parent.is_dir():
        raise BadInputError(
            f"the folder {path.parent} does not exist",
            remedy=f"make it first: mkdir -p {quote(str(path.parent))}",
        )


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Yield a file for UTF-8 text. It gets its name at the end of the `with` block; after an error, it is removed.

    Raises:
        BadInputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            with partial.open("x", encoding="utf-8", newline="") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be written: {error.strerror}",
            remedy="name a file in a folder that this user can write to, on a disk with enough space",
        ) from error
