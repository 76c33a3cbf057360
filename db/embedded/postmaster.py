"""Find the process that serves a data directory, and remove what a killed server left behind.

A pid file proves nothing. After a crash, its pid may belong to no process, to a zombie or to another program. So a process
counts as the postmaster of a directory only if its command line or its working directory names the directory.
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

# Other processes find the owner's pid under this name on the server's command line. PostgreSQL ignores a custom setting.
OWNER_SETTING = "embedded.owner_pid"

_FAST_SHUTDOWN_TIMEOUT_S = 30
_IMMEDIATE_SHUTDOWN_TIMEOUT_S = 20  # after 5 s, the postmaster kills processes that still run
_ORPHANS_TIMEOUT_S = 20


@dataclass(frozen=True)
class Postmaster:
    """A live postmaster, verified to serve its data directory."""

    pid: int
    port: int | None  # None while the pid file is not complete
    accepts_connections: bool
    orphaned: bool  # its owner process has ended, so its watchdog is about to stop it


@dataclass(frozen=True)
class _PidFile:
    pid: int
    port: int | None
    status: str


def find_postmaster(data: Path) -> Postmaster | None:
    """Return the live postmaster of a data directory, or None. The pid file of a dead postmaster does not count."""
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
        # The owner is the parent. An orphan gets another parent, so a reused pid cannot make a dead owner look alive.
        orphaned=owner is not None and int(owner[1]) != process.ppid(),
    )


def is_postmaster_of(pid: int, data: Path) -> bool:
    """Tell whether the process `pid` is alive and is the postmaster of `data`."""
    process = _live_process(pid)
    return process is not None and _serves(process, data)


def clear_leftovers(data: Path) -> None:
    """Remove the backends and the pid file of a killed postmaster. Call this only if no postmaster serves the directory.

    PostgreSQL removes a stale pid file by itself. But it mistakes any zombie, and any live process with its own uid, for the
    old postmaster. It also does not start while old backends hold the shared memory.

    Raises:
        DatabaseUnavailableError: a backend does not end.
    """
    # A waiting backend notices the postmaster's death and ends. A busy backend would continue, and even commit.
    for pid in _postgres_processes_in(data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    if not poll(lambda: not _postgres_processes_in(data), timeout_s=_ORPHANS_TIMEOUT_S):
        pids = ", ".join(map(str, _postgres_processes_in(data)))
        raise DatabaseUnavailableError(
            f"processes of a killed server still work in {data}: {pids}", remedy="end them and try again"
        )
    (data / "postmaster.pid").unlink(missing_ok=True)


def shut_down(send: Callable[[signal.Signals], None], has_ended: Callable[[], bool]) -> bool:
    """Stop a postmaster with a fast shutdown, then with an immediate one if that takes too long. Neither loses a commit.

    Returns:
        True if the postmaster has ended.
    """
    attempts = ((signal.SIGINT, _FAST_SHUTDOWN_TIMEOUT_S), (signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_TIMEOUT_S))
    for number, timeout_s in attempts:
        if has_ended():
            return True
        with contextlib.suppress(ProcessLookupError):
            send(number)
        if poll(has_ended, timeout_s=timeout_s):
            return True
    return False


def _read_pid_file(data: Path) -> _PidFile | None:
    """Read a server's pid file. PostgreSQL's miscadmin.h documents its lines. A server adds the last lines while it starts."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    if pid <= 1:  # negative in single-user mode; kill() reads a negative number as a process group
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else None  # noqa: PLR2004
    return _PidFile(pid, port, status=lines[7].strip() if len(lines) > 7 else "")  # noqa: PLR2004


def _serves(process: psutil.Process, data: Path) -> bool:
    # Containers without CAP_SYS_PTRACE hide the working directory of other accounts, not the command line.
    return f"postgres -D {data} " in f"{_command(process)} " or _is_postgres_in(process, data)


def _live_process(pid: int) -> psutil.Process | None:
    """Return the process with this id, or None if there is none or if it is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD} else process
    except psutil.NoSuchProcess:
        return None


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended, or this account may not see it
        return ""


def _postgres_processes_in(data: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter() if _is_postgres_in(process, data)]


def _is_postgres_in(process: psutil.Process, data: Path) -> bool:
    """Tell whether a process is a live postgres with the working directory `data`, which all processes of a server have."""
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data
    except psutil.Error:  # it has ended, is a zombie, or this account may not see it
        return False
