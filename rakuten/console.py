"""The console of the commands: its width, wherever the output goes."""

from typing import Final

from rich.console import Console

_TABLE_WIDTH: Final = 110


def wide_console(width: int = _TABLE_WIDTH) -> Console:
    """A console on which the table fits also where there is no terminal to ask for its width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width)
