"""The console on which the commands print tables. The tables stay wide when the output is not a terminal."""

from typing import Final

from rich.console import Console

_TABLE_WIDTH: Final = 110


def wide_console(width: int = _TABLE_WIDTH) -> Console:
    """Return a console for the terminal, or one that is `width` columns wide if the output is not a terminal.

    Without a terminal, rich assumes a default width, which is too narrow for the tables.
    """
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width)
