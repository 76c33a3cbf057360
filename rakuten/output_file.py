"""Write the file that a user names with --out: a new file, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from shared.errors import BadInputError


def require_new(path: Path) -> None:
    """Check that there is no such file yet, so that a command overwrites nothing.

    Raises:
        BadInputError: there is such a file, or a folder.
    """
    if path.exists():
        raise BadInputError(f"{path} exists already", remedy="delete it, or choose another name for --out")


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
