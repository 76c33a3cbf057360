"""Measure how many bytes the pipeline takes, how fast they grow, and for how long the disk of STATE_PATH is large enough."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from db import batches
from db.batches import Connection
from db.sql import query
from shared.config import Settings
from shared.disk import Disk, measure_disk

STORAGE_QUERY: Final = "batches/storage"  # in db/sql/queries
_WARN_WEEKS: Final = 2  # docs/monitoring/alerts.yml has the same limit, in days
_DAYS_PER_WEEK: Final = 7


@dataclass(frozen=True)
class Place:
    """The bytes that one place takes: a row of the view `storage`, or a file or folder in STATE_PATH that PostgreSQL cannot see."""

    kind: str
    object: str
    bytes: int
    index_bytes: int | None = None
    bytes_per_week: int | None = None
    is_part_of_database: bool = False
    runs_without_size: int | None = None


@dataclass(frozen=True)
class Storage:
    """What the pipeline's data takes, and the disk of STATE_PATH.

    Attributes:
        places: the places, in the order of the view `storage`.
        disk: the disk of STATE_PATH.
        weeks_to_come: number of weeks that are still to be loaded.
    """

    places: list[Place]
    disk: Disk
    weeks_to_come: int

    @property
    def bytes(self) -> int:
        """The bytes of all places. A table is part of the database and is not counted twice."""
        return sum(place.bytes for place in self.places if not place.is_part_of_database)

    @property
    def bytes_per_week(self) -> int | None:
        """The estimated growth of all places a week, or None before two weeks are loaded."""
        known = [
            place.bytes_per_week
            for place in self.places
            if place.bytes_per_week is not None and not place.is_part_of_database
        ]
        return sum(known) if known else None

    @property
    def days_left(self) -> float | None:
        """The days until the disk is full if each week loads one week and all places lie on this disk; None if nothing grows."""
        return self.disk.free_bytes / self.bytes_per_week * _DAYS_PER_WEEK if self.bytes_per_week else None

    @property
    def is_nearly_full(self) -> bool:
        """True if the next two weeks that are still to be loaded do not fit on the disk."""
        return min(self.weeks_to_come, _WARN_WEEKS) * (self.bytes_per_week or 0) > self.disk.free_bytes

    def as_json(self) -> dict[str, Any]:
        """Return all numbers as values that JSON can hold."""
        return {
            "places": [asdict(place) for place in self.places],
            "bytes": self.bytes,
            "bytes_per_week": self.bytes_per_week,
            "weeks_to_come": self.weeks_to_come,
            "disk": {**asdict(self.disk), "path": str(self.disk.path)},
            "days_left": self.days_left,
        }


def measure_storage(connection: Connection, settings: Settings) -> Storage:
    """Read the views `storage` and `storage_growth`, and measure the files and the disk of STATE_PATH."""
    recorded = [Place(**row) for row in batches.rows(connection, query(STORAGE_QUERY))]
    places = [_present(place, settings) for place in recorded]
    [last] = batches.rows(
        connection,
        "select max(kind_number) as week from batches where kind = 'week' and status = 'completed'",
    )
    return Storage(
        places + list(_files(settings)),
        measure_disk(settings.state_path),
        max(0, settings.last_week - (last["week"] or 0)),
    )


def _present(place: Place, settings: Settings) -> Place:
    """Replace the recorded bytes of the local copies by the present ones, because old copies may have been deleted."""
    if place.kind == "copies" and settings.snapshots_path.exists():
        return replace(place, bytes=_bytes_of(settings.snapshots_path), runs_without_size=0)
    return place


def _files(settings: Settings) -> Iterator[Place]:
    paths = [settings.mlflow_path / "mlflow.db", settings.openlineage_path, settings.logs_path]
    if "://" not in settings.dataset_store_uri:
        paths.append(Path(settings.dataset_store_uri))  # what Spark has written
    for path in paths:
        if path.exists():
            yield Place("files", path.name, _bytes_of(path))


def _bytes_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder. A file that is deleted meanwhile counts as empty."""
    files = (
        [path] if path.is_file() else [Path(root, name) for root, _, names in os.walk(path) for name in names]
    )
    return sum(_size_or_zero(file) for file in files)


def _size_or_zero(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0
