"""The parts of the report's page: sections with figures, small lines and tables, and how values are written in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rakuten.report.tables import Row, Table

NOTHING: Final = "-"
NOT_RECORDED: Final = "not recorded by version 0.2"
_LINE_WIDTH: Final = 100.0  # units of a small line's own coordinates
_LINE_HEIGHT: Final = 30.0

Format = Callable[[Any], str]


@dataclass(frozen=True)
class Figure:
    """A figure: its specification for Vega-Lite, and a text that says in words what it shows."""

    name: str
    spec: Row
    alternative: str
    caption: str = ""


@dataclass(frozen=True)
class Line:
    """A small line of change: `points` are the coordinates of an SVG polyline, `base` is the height of the first value."""

    label: str
    points: str
    base: float
    change: str


@dataclass(frozen=True)
class Step:
    """A step of a lineage: what it is, its name, and facts about it as pairs of texts."""

    title: str
    name: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grid:
    """A table of texts. `numeric` says for each column whether its cells are aligned to the right.

    A table that `is_open` is visible at once; the others open on a click.
    """

    caption: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: list[tuple[str, ...]]
    is_open: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: its id in the page.
        title: its heading.
        help: one sentence that says how to read the figure.
        says: what the figure shows now.
        queries: the queries that returned the data, in the order in which they are shown.
        figures, lines, steps, grids: what the section shows.
    """

    anchor: str
    title: str
    help: str
    says: str
    queries: tuple[Table, ...]
    figures: tuple[Figure, ...] = ()
    lines: tuple[Line, ...] = ()
    steps: tuple[Step, ...] = ()
    grids: tuple[Grid, ...] = ()


def grid(
    caption: str, rows: Sequence[Row], formats: dict[str, Format] | None = None, /, **titles: str
) -> Grid:
    """Return a table of some columns of the rows, which `titles` names with their headings. `formats` writes the values."""
    formats = formats or {}
    cells = [tuple(formats.get(column, text_of)(row[column]) for column in titles) for row in rows]
    return Grid(caption, tuple(titles.values()), tuple(_is_number(rows, column) for column in titles), cells)


def pivot(
    caption: str, rows: Sequence[Row], batch_names: Sequence[str], *, down: str, value: str, form: Format
) -> Grid:
    """Return a table with a row for each value of `down`, in order of appearance, and a column for each batch that has a row."""
    values = {(row[down], row["batch_name"]): form(row[value]) for row in rows}
    columns = [name for name in batch_names if any(name == batch for _, batch in values)]
    cells = [
        (name, *(values.get((name, column), NOTHING) for column in columns))
        for name in dict.fromkeys(row[down] for row in rows)
    ]
    return Grid(caption, (down, *columns), (False, *(True for _ in columns)), cells)


def _is_number(rows: Sequence[Row], column: str) -> bool:
    values = [row[column] for row in rows if row[column] is not None]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def text_of(value: Any) -> str:
    """Write a value: whole numbers with separators, other numbers with four digits, and times in UTC."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)


def number(value: int) -> str:
    """Write a number that is a name, for example of a version, without separators."""
    return NOTHING if value is None else str(value)


def score(value: float | None) -> str:
    """Write a score from 0 to 1 with three digits."""
    return NOTHING if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Write a share from 0 to 1 in percent, with two digits."""
    return NOTHING if value is None else f"{100 * value:.2f}\u00a0%"


def seconds(value: float | None) -> str:
    """Write a duration in seconds with three digits after the point."""
    return NOTHING if value is None else f"{value:,.3f}"


def unrecorded(batch_names: Sequence[str], rows: Sequence[Row], reason: str = NOT_RECORDED) -> str:
    """Say for how many of the batches no row was recorded, and why. Return "" if each has one."""
    known = {row["batch_name"] for row in rows}
    missing = [name for name in batch_names if name not in known]
    if not missing:
        return ""
    return f"{plural(len(missing), 'batch') if known else 'All batches'}: {reason}."


def plural(count: int, noun: str) -> str:
    """Write a number with its noun: `1 week`, `2 weeks`, `3 batches`."""
    ending = "" if count == 1 else "es" if noun.endswith(("ch", "ss")) else "s"
    return f"{count:,} {noun}{ending}"


def line(label: str, values: Sequence[float], low: float, high: float, change: str) -> Line:
    """Return a small line through the values, which lie between `low` and `high`."""
    scale = _LINE_HEIGHT / (high - low) if high > low else 0.0
    step = _LINE_WIDTH / max(1, len(values) - 1)
    heights = [_LINE_HEIGHT - (value - low) * scale for value in values]
    points = " ".join(f"{place * step:.1f},{height:.1f}" for place, height in enumerate(heights))
    return Line(label, points, round(heights[0], 1) if heights else 0.0, change)
