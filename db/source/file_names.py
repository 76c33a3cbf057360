"""Find the source files in a directory. The Rakuten challenge gives them names with a suffix, such as X_train_update.csv.

One rule applies to all four files. The name of a file begins with X_train, Y_train, X_test or Y_test, in upper or lower case.
After that comes nothing, or a suffix that begins with neither a letter nor a digit. The name ends in .csv. So X_train.csv,
x_train_small.csv and "X_train (1).csv" are names of the same source file. A directory with two of them is rejected.
"""

import re
from pathlib import Path

from db.source.file_format import LET_READ, decompress
from shared.errors import BadSourceError, Problem


def find_source_file(directory: Path, name: str) -> Path:
    """Return the path of a source file. `name` is its name without a suffix, such as X_train.csv.

    If no file has this name with or without a suffix, return `directory / name`.

    Raises:
        BadSourceError: several files have such a name, or the file is compressed, or the directory cannot be read.
    """
    try:
        found = files_named(directory, name)
        archives = [] if found else _with_stem(directory, name)
        compressed = [problem for path in archives if (problem := decompress(path, directory / name))]
    except OSError as error:
        reason, remedy = f"{error.filename} cannot be read: {error.strerror}", LET_READ
        raise BadSourceError([Problem(name, None, "", reason, remedy)], directory) from error
    if len(found) > 1:
        others = ", ".join(path.name for path in found)
        reason = f"several files could be this file: {others}"
        remedy = f"keep one of them in {directory}, and move the others to another folder"
        raise BadSourceError([Problem(name, None, "", reason, remedy)], directory)
    if compressed:
        raise BadSourceError(compressed[:1], directory)
    return found[0] if found else directory / name


def files_named(directory: Path, name: str) -> list[Path]:
    """Return the files in a directory that could be the source file `name`, in the order of their names."""
    return [path for path in _with_stem(directory, name) if path.suffix.lower() == ".csv"]


def _with_stem(directory: Path, name: str) -> list[Path]:
    stem = re.compile(re.escape(name.removesuffix(".csv")) + r"(?![^\W_])", re.IGNORECASE)
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if stem.match(path.name) and path.is_file())
