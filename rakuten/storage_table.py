"""Print how much space everything takes, as a table and in sentences."""

import json
from typing import Final

import typer

from rakuten.console import Column, print_table, readable_bytes
from rakuten.storage import Place, Storage

_CAPTION: Final = (
    "A table is part of the database. Artifacts: as the stages recorded.\n"
    "a week: an estimate, the mean of the last four weeks"
)
_MANY_DAYS: Final = 3650


def show_storage(storage: Storage, *, as_json: bool, wide: bool = False) -> None:
    """Print the table of all places, and then what the disk of STATE_PATH has room for."""
    if as_json:
        typer.echo(json.dumps(storage.as_json(), indent=2))
        return
    columns = COLUMNS if any(place.runs_without_size for place in storage.places) else COLUMNS[:-1]
    print_table(columns, storage.places, wide=wide, caption=_CAPTION)
    typer.echo("\n".join(sentences(storage)))


def sentences(storage: Storage) -> list[str]:
    """Return what the numbers mean: the sum and its growth, the free space, and the days and weeks that it is enough for."""
    disk, growth = storage.disk, storage.bytes_per_week
    total = f"Everything takes {readable_bytes(storage.bytes)}"
    if growth is not None:
        total += f" and grows by about {readable_bytes(growth)} a week"
    free = (
        f"The disk of STATE_PATH ({disk.path}) has {readable_bytes(disk.free_bytes)} of "
        f"{readable_bytes(disk.size_bytes)} free."
    )
    lines = [f"{total}.", free]
    if storage.weeks_to_come and (days := storage.days_left) is not None:
        lines.append(
            "With one load a week it is full "
            + (f"in about {days:,.0f} days" if days < _MANY_DAYS else "in more than ten years")
            + ", if it holds everything."
        )
    return [*lines, outlook(storage)]


def outlook(storage: Storage) -> str:
    """Say in one sentence whether the disk has room for the weeks that are still to be loaded."""
    growth, weeks = storage.bytes_per_week, storage.weeks_to_come
    if not weeks:
        return "All weeks are loaded, so only corrections add data."
    if growth is None:
        return "The growth is known when two weeks are loaded."
    need = weeks * growth
    enough = "which fits" if need <= storage.disk.free_bytes else "which does not fit"
    if weeks > 1:
        return f"The {weeks} weeks still to load need about {readable_bytes(need)}, {enough}."
    return f"The last week still to load needs about {readable_bytes(need)}, {enough}."


def _size(count: int | None) -> str:
    return "" if count is None else readable_bytes(count)


def _object(place: Place) -> str:
    return f"  {place.object}" if place.is_part_of_database else place.object


COLUMNS: Final = (
    Column("kind", lambda place: place.kind, justify="left"),
    Column("object", _object, justify="left"),
    Column("size", lambda place: _size(place.bytes)),
    Column("indexes", lambda place: _size(place.index_bytes), rank=2),
    Column("a week", lambda place: _size(place.bytes_per_week)),
    Column(
        "runs without a size",
        lambda place: str(place.runs_without_size) if place.runs_without_size else "",
        rank=1,
    ),
)
