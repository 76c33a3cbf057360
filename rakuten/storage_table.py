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
    disk, growth, weeks = storage.disk, storage.bytes_per_week, storage.weeks_to_come
    total = f"Everything takes {readable_bytes(storage.bytes)}"
    free = (
        f"The disk of STATE_PATH ({disk.path}) has {readable_bytes(disk.free_bytes)} of "
        f"{readable_bytes(disk.size_bytes)} free."
    )
    if growth is None or storage.days_left is None:
        return [f"{total}. The growth is known when two weeks are loaded.", free]
    lines = [f"{total} and grows by about {readable_bytes(growth)} a week.", free]
    if not weeks:
        return [*lines, "All weeks are loaded, so only corrections add data."]
    days = storage.days_left
    lines.append(
        "With one load a week it is full "
        + (f"in about {days:,.0f} days" if days < _MANY_DAYS else "in more than ten years")
        + ", if it holds everything."
    )
    need = weeks * growth
    enough = "which fits" if need <= disk.free_bytes else "which does not fit"
    lines.append(
        f"The {weeks} weeks still to load need about {readable_bytes(need)}, {enough}."
        if weeks > 1
        else f"The last week still to load needs about {readable_bytes(need)}, {enough}."
    )
    return lines


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
