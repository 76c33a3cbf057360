"""Programs of Debian's packages that some tests need: pgbouncer, prometheus with promtool, chromium, java.

Where a program is missing, its tests are skipped. But .ci/run installs the packages where it may, and names the programs in
REQUIRED_PROGRAMS: then a test that lacks its program fails.
"""

import os
import shutil

import pytest

_FOLDERS = (os.defpath, "/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")


def find(name: str) -> str | None:
    """Return the path of a program, or None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_FOLDERS))


def is_required(name: str) -> bool:
    """Return whether a test that needs this program must fail, and not be skipped, if it is missing."""
    return name in os.environ.get("REQUIRED_PROGRAMS", "").split()  # noqa: TID251


def _reason(name: str) -> str:
    return f"{name} is not installed: apt-get install {name}"


def needs(name: str) -> pytest.MarkDecorator:
    """Skip a test, or the tests of a module, if a program is not installed."""
    return pytest.mark.skipif(find(name) is None and not is_required(name), reason=_reason(name))


def path_of(name: str) -> str:
    """Return the path of a program. If it is not installed, skip the test, or fail it where the program is required."""
    if (path := find(name)) is not None:
        return path
    if is_required(name):
        pytest.fail(_reason(name))
    pytest.skip(_reason(name))
