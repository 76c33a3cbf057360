"""What serves a data directory: its pid file, the process behind it, and what a killed server left behind.

A pid file proves nothing: after a crash its pid may be nobody's, a zombie's, or another program's. So a
process counts as the postmaster of a directory only if its command line or its working directory says so.
"""

import contextlib
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from db.embedded.waiting import poll
from shared.errors import DatabaseUnavailableError

# Shown to others on the server's command line: a custom setting, so that PostgreSQL keeps and ignores it.
OWNER_SETTING = "embedded.owner_pid"

_FAST_SHUTDOWN_TIMEOUT_S = 30
_IMMEDIATE_SHUTDOWN_TIMEOUT_S = 20  # the postmaster itself kills what has not left after 5 s
_ORPHANS_TIMEOUT_S = 20


@dataclass(frozen=True)
class Postmaster:
    """A live postmaster, verified to serve its data directory."""

    pid: int
    port: int | None  # None while the pid file is not complete
    accepts_connections: bool
    doomed: bool  # the process that owned it is gone, so its watchdog is about to stop it


@dataclass(frozen=True)
class _PidFile:
    pid: int
    port: int | None
    status: str


def find_postmaster(data: Path) -> Postmaster | None:
    """The live postmaster of a data directory; leftovers of a dead one do not count."""
    pid_file = _read_pid_file(data)
    if pid_file is None:
        return None
    process = _live_process(pid_file.pid)
    if process is None or not _serves(process, data):
        return None
    owner = re.search(rf"{re.escape(OWNER_SETTING)}=(\d+)", _command(process))
    return Postmaster(
        pid=pid_file.pid,
        port=pid_file.port,
        accepts_connections=pid_file.port is not None and pid_file.status == "ready",
        # An orphan gets another parent, so a recycled pid cannot make a dead owner look alive.
        doomed=owner is not None and int(owner[1]) != process.ppid(),
    )


def is_postmaster_of(pid: int, data: Path) -> bool:
    """Whether the process `pid` lives and is the postmaster of `data`."""
    process = _live_process(pid)
    return process is not None and _serves(process, data)


def clear_leftovers(data: Path) -> None:
    """Remove what a killed postmaster left: its backends and its pid file. Only for a directory nobody serves.

    PostgreSQL would clear a stale pid file by itself, but takes any live process of its own uid, and any
    zombie, for the old postmaster; and it does not start while old backends hold the shared memory.

    Raises:
        DatabaseUnavailableError: a backend does not end.
    """
    # A backend that waits notices the postmaster's death; one that computes would go on, and even commit.
    for pid in _postgres_processes_in(data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    if not poll(lambda: not _postgres_processes_in(data), timeout_s=_ORPHANS_TIMEOUT_S):
        pids = ", ".join(map(str, _postgres_processes_in(data)))
        raise DatabaseUnavailableError(
            f"processes of a killed server still work in {data}: {pids}", remedy="end them and try again"
        )
    (data / "postmaster.pid").unlink(missing_ok=True)


def shut_down(send: Callable[[signal.Signals], None], is_gone: Callable[[], bool]) -> bool:
    """Stop a postmaster: a fast shutdown, or an immediate one if that takes too long. Neither loses a commit.

    Returns:
        Whether it is gone.
    """
    attempts = ((signal.SIGINT, _FAST_SHUTDOWN_TIMEOUT_S), (signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_TIMEOUT_S))
    for number, timeout_s in attempts:
        if is_gone():
            return True
        with contextlib.suppress(ProcessLookupError):
            send(number)
        if poll(is_gone, timeout_s=timeout_s):
            return True
    return False


def _read_pid_file(data: Path) -> _PidFile | None:
    """The lines are documented in PostgreSQL's miscadmin.h; the last ones are added as the server starts."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    if pid <= 1:  # negative for single-user mode; kill() reads such numbers as process groups
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else None  # noqa: PLR2004
    return _PidFile(pid, port, status=lines[7].strip() if len(lines) > 7 else "")  # noqa: PLR2004


def _serves(process: psutil.Process, data: Path) -> bool:
    # Containers without CAP_SYS_PTRACE hide the working directory of other accounts, not the command line.
    return f"postgres -D {data} " in f"{_command(process)} " or _is_postgres_in(process, data)


def _live_process(pid: int) -> psutil.Process | None:
    """Return the process of that id, unless it is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD} else process
    except psutil.NoSuchProcess:
        return None


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # gone, or not ours to see
        return ""


def _postgres_processes_in(data: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter() if _is_postgres_in(process, data)]


def _is_postgres_in(process: psutil.Process, data: Path) -> bool:
    """Tell whether a live process is a postgres that works in `data`, as every process of a server does."""
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data
    except psutil.Error:  # gone, a zombie, or not ours to see
        return False
