"""Measure the disk that holds a folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """The disk that holds the folder `path`: its size and its free space."""

    path: Path
    size_bytes: int
    free_bytes: int


def measure_disk(path: Path) -> Disk:
    """Measure the disk that holds a folder, or that would hold it.

    Raises:
        OSError: the disk cannot be read.
    """
    path = path.absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    return Disk(path, usage.total, usage.free)
