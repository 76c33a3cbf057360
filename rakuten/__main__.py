"""Start the command line, if Python finds this project's own `db`, `listeners` and `shared`.

These names are common. Another package of the same name that comes earlier on Python's search path would be imported instead,
and its errors would name neither the package nor the reason.

This module imports only the standard library, because every other import may already be the wrong one.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("db", "listeners", "shared")


def main() -> None:
    """Run a command, or exit with code 1 and a message that names the foreign package."""
    ours = Path(__file__).resolve().parent.parent
    for package in _PACKAGES:
        found = _place_of(package)
        if found not in {None, ours / package}:
            sys.exit(
                f"error: Python finds another package `{package}` before the one of rakuten-pipeline in {ours}: {found}\n"
                "  remedy: rename the other package, or remove its folder from PYTHONPATH"
            )
    from rakuten.cli import main as run_command  # noqa: PLC0415

    run_command()


def _place_of(package: str) -> Path | None:
    """Return the folder of the package that an import would find, or the file of a module. Return None if there is neither."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    places = spec.submodule_search_locations or [str(spec.origin)]
    return Path(next(iter(places))).resolve()


if __name__ == "__main__":
    main()
