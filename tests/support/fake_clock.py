"""A clock that can be set, for the processes of a test: how far it is ahead of the machine's, a file says.

PostgreSQL sees it through libfaketime, where that is installed (Debian: faketime). It does not agree with Python, whose sleep
fails under it when the clock jumps, so the listeners see the same offset through the functions of `time`. Monotonic clocks
stay what they are, as they do when a machine's clock is set.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_OFFSET = "CLOCK_OFFSET_FILE"
_CACHED_S = 1
_LIBRARIES = [
    f"{folder}/faketime/libfaketime.so.1" for folder in ("usr/lib/*", "usr/lib", "usr/lib64", "usr/local/lib")
]


def find_library() -> Path | None:
    return next((path for pattern in _LIBRARIES for path in Path("/").glob(pattern)), None)


def for_programs(library: Path, file: Path) -> dict[str, str]:
    """The environment of a program that is not ours."""
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": str(_CACHED_S),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def for_python(file: Path) -> dict[str, str]:
    """The environment of a process that calls `patch`."""
    return {_OFFSET: str(file)}


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """What is started in this block has these variables."""
    leftovers_of_others = set(_leftovers())
    os.environ.update(variables)  # noqa: TID251
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]  # noqa: TID251
        for leftover in set(_leftovers()) - leftovers_of_others:
            leftover.unlink(missing_ok=True)


def _leftovers() -> Iterator[Path]:
    """What libfaketime shares between processes by name; it never removes it, and a later process of the same pid would fail."""
    return Path("/dev/shm").glob("*faketime_*")  # noqa: S108


def set_offset(file: Path, seconds: int) -> None:
    """Set the clock, and wait until everybody has seen it."""
    partial = file.with_suffix(".partial")
    partial.write_text(f"{seconds:+d}\n")
    partial.replace(file)
    time.sleep(2 * _CACHED_S)


def patch() -> None:
    """Put this process on the fake clock, if it is to be."""
    if file := os.environ.get(_OFFSET):  # noqa: TID251
        real, real_ns, offset_s = time.time, time.time_ns, lambda: int(Path(file).read_text())
        time.time = lambda: real() + offset_s()
        time.time_ns = lambda: real_ns() + offset_s() * 10**9
