"""What the commands print with: a console for tables, and paths and commands that a user can copy into a shell.

The tables stay wide when the output is not a terminal.
"""

import shutil
import sys
from pathlib import Path
from shlex import quote
from typing import Final

from rich.console import Console

from shared.config import Settings

_TABLE_WIDTH: Final = 110


def wide_console(width: int = _TABLE_WIDTH) -> Console:
    """Return a console for the terminal, or one that is `width` columns wide if the output is not a terminal.

    Without a terminal, rich assumes a default width, which is too narrow for the tables.
    """
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width)


def shell_path(path: Path) -> str:
    """Return a path quoted for a shell, relative to the current directory if the path lies inside it."""
    return quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def rakuten_command(settings: Settings) -> str:
    """Return the words with which a shell in the current directory calls `rakuten` with the same STATE_PATH."""
    program = Path(sys.executable).with_name("rakuten")
    command = "rakuten" if shutil.which("rakuten") == str(program) else shell_path(program)
    is_default = settings.state_path == Path(Settings.model_fields["state_path"].default).absolute()
    return command if is_default else f"STATE_PATH={shell_path(settings.state_path)} {command}"
