"""What the commands print with: tables that fit, and paths and commands that a user can copy into a shell.

On a terminal, a table leaves out its less important columns if it would not fit. Elsewhere, a table is never cut.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any, Final, Literal, NamedTuple

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from shared.config import Settings
from shared.errors import BadSourceError

_UNLIMITED: Final = 1000  # columns of a console that is not a terminal
_SHORT_ID: Final = 8
_UNIT: Final = 1024  # as in pg_size_pretty()
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")
_ONE_DIGIT_BELOW: Final = 10
_WRAPPED_WIDTH: Final = 20  # columns that a text gets at least, if it is longer and may be wrapped
_WIDE_HINT: Final = "--wide, or a wider terminal, also shows"


class Column(NamedTuple):
    """A column of a table. `rank` 0 is always shown; of the others, the highest rank is left out first.

    `cell` returns the text of a row in this column, in rich's markup. A text of a column that `wraps` may take several lines.
    """

    heading: str
    cell: Callable[[Any], str]
    rank: int = 0
    justify: Literal["left", "right"] = "right"
    wraps: bool = False


def wide_console(*, live: bool = False) -> Console:
    """Return a console for the terminal, or one that never cuts a line if the output is not a terminal.

    FORCE_COLOR brings colours into a file, too. If the output is drawn again and again (`live`), it is drawn only once in a file.
    """
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_UNLIMITED, force_terminal=False if live else None)


def error_console() -> Console:
    """Return a console for the terminal of standard error. If standard error is no terminal, the console shows nothing."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())


@contextmanager
def problems_as_json(as_json: bool) -> Iterator[None]:
    """If the `with` block rejects a file and the user wants JSON, print the file's problems as JSON instead of the error."""
    try:
        yield
    except BadSourceError as error:
        if not as_json:
            raise
        problems = [asdict(problem) for problem in error.problems]
        typer.echo(json.dumps({"problems": problems}, ensure_ascii=False, indent=2))
        raise typer.Exit(error.exit_code) from None


def working(step: str) -> Status:
    """Show a step on the terminal of standard error until the end of the `with` block. Elsewhere, show nothing."""
    return error_console().status(step)


def fitting_table(
    columns: Sequence[Column],
    rows: Sequence[Any],
    width: int,
    *,
    title: str | None = None,
    caption: str = "",
    hint: str = "a wider terminal also shows",
) -> Table:
    """Return a table that is not wider than `width` columns, without the columns that do not fit. The caption names these after `hint`."""
    cells = {column: [column.cell(row) for row in rows] for column in columns}
    widths = {
        column: max(Text.from_markup(text).cell_len for text in (column.heading, *cells[column]))
        for column in columns
    }
    widths |= {column: min(widths[column], _WRAPPED_WIDTH) for column in columns if column.wraps}
    shown = list(columns)
    while sum(widths[column] + 3 for column in shown) + 1 > width and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    if hidden := [column.heading for column in columns if column not in shown]:
        caption += f"\n{hint}: {', '.join(hidden)}"
    table = Table(title=title, caption=caption.strip() or None)
    for column in shown:
        table.add_column(column.heading, justify=column.justify, no_wrap=not column.wraps)
    for row in zip(*(cells[column] for column in shown), strict=True):
        table.add_row(*row)
    return table


def print_table(columns: Sequence[Column], rows: Sequence[Any], *, wide: bool = False, **texts: Any) -> None:
    """Print a table that fits the terminal, or all of its columns if `wide`. `texts` are the title and the caption."""
    console = wide_console()
    if wide:
        console.width = _UNLIMITED
    console.print(fitting_table(columns, rows, console.width, hint=_WIDE_HINT, **texts))


def short_id(run_id: str | None, *, full: bool) -> str:
    """Return the first characters of a run id, which tell the runs of one pipeline apart, or all if `full`."""
    return (run_id or "") if full else (run_id or "")[:_SHORT_ID]


def readable_bytes(count: float) -> str:
    """Return a number of bytes in a unit that is easy to read, for example 1.5 GB. A unit is 1,024 of the next smaller one."""
    units = iter(_UNITS)
    unit = next(units)
    while abs(count) >= _UNIT and (larger := next(units, None)):
        count, unit = count / _UNIT, larger
    return (
        f"{count:,.1f} {unit}"
        if unit != "bytes" and abs(count) < _ONE_DIGIT_BELOW
        else f"{count:,.0f} {unit}"
    )


def shell_path(path: Path) -> str:
    """Return a path quoted for a shell, relative to the current directory if the path lies inside it."""
    return quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def rakuten_command(settings: Settings) -> str:
    """Return the words with which a shell in the current directory calls `rakuten` with the same STATE_PATH."""
    program = Path(sys.executable).with_name("rakuten")
    command = "rakuten" if shutil.which("rakuten") == str(program) else shell_path(program)
    is_default = settings.state_path == Path(Settings.model_fields["state_path"].default).absolute()
    return command if is_default else f"STATE_PATH={shell_path(settings.state_path)} {command}"
