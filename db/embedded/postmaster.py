"""Find the postmaster (main server process) of a data directory, and remove what a killed server left behind.

A pid file does not prove that a server runs. After a crash, its pid may belong to no process, to a zombie or to another
program. So a process counts as the postmaster of a data directory only if its command line or its working directory
names the data directory.
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

# A setting on the server's command line. Its value is the pid of the owner, which is the process that started the server. Other
# processes read it to find the owner. PostgreSQL does not know this setting, but accepts it because its name has a dot.
OWNER_SETTING = "embedded.owner_pid"

_FAST_SHUTDOWN_TIMEOUT_S = 30
_IMMEDIATE_SHUTDOWN_TIMEOUT_S = 20  # longer than the 5 s after which the postmaster kills its child processes
_ORPHANS_TIMEOUT_S = 20


@dataclass(frozen=True)
class Postmaster:
    """A running postmaster (main server process of PostgreSQL) that `find_postmaster` found for a data directory."""

    pid: int
    port: int | None  # None until the starting server has written its port to the pid file
    accepts_connections: bool
    orphaned: bool  # the process that started the server has ended, so a watchdog will soon stop the server


@dataclass(frozen=True)
class _PidFile:
    pid: int
    port: int | None
    status: str


def find_postmaster(data: Path) -> Postmaster | None:
    """Return the running postmaster of a data directory. Return None if there is none, even if its pid file still exists."""
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
        # The owner started the server, so the owner is the server's parent process until the owner ends. Afterwards, a new
        # process may get the owner's old pid. It does not become the server's parent, so the server still counts as orphaned.
        orphaned=owner is not None and int(owner[1]) != process.ppid(),
    )


def is_postmaster_of(pid: int, data: Path) -> bool:
    """Tell whether the process `pid` is alive and is the postmaster of `data`."""
    process = _live_process(pid)
    return process is not None and _serves(process, data)


def clear_leftovers(data: Path) -> None:
    """End the backend processes of a killed postmaster, and remove its pid file.

    Call this only if no postmaster serves the data directory. After a kill, a new postmaster cannot start in two cases:
    - Backend processes of the killed postmaster still hold the shared memory.
    - The pid in the pid file now belongs to a zombie, or to another process of the same account. The new postmaster takes this
      process for the killed postmaster.

    Raises:
        DatabaseUnavailableError: a backend process does not end within 20 s.
    """
    # After the postmaster's death, an idle backend process ends by itself. A busy backend would finish its statement first, and
    # could even commit the statement. So this loop ends all backends.
    for pid in _postgres_processes_in(data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    if not poll(lambda: not _postgres_processes_in(data), timeout_s=_ORPHANS_TIMEOUT_S):
        pids = ", ".join(map(str, _postgres_processes_in(data)))
        raise DatabaseUnavailableError(
            f"processes of a killed PostgreSQL still use {data}: {pids}", remedy="end these processes"
        )
    (data / "postmaster.pid").unlink(missing_ok=True)


def shut_down(send: Callable[[signal.Signals], None], has_ended: Callable[[], bool]) -> bool:
    """Stop a postmaster with PostgreSQL's fast shutdown. If it still runs after 30 s, use the immediate shutdown.

    Neither kind of shutdown loses a committed transaction.

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
    """Return the pid, the port and the status in the pid file of a data directory, or None if the file has no valid pid.

    PostgreSQL's miscadmin.h documents the lines of the file. A starting server writes the pid first. Until it has written the
    others, the port is None and the status is empty.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    # PostgreSQL in single-user mode writes a negative pid. Ignore it: os.kill() with it would signal a whole process group.
    if pid <= 1:
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else None  # noqa: PLR2004
    return _PidFile(pid, port, status=lines[7].strip() if len(lines) > 7 else "")  # noqa: PLR2004


def _serves(process: psutil.Process, data: Path) -> bool:
    # The working directory alone is not enough: a container without CAP_SYS_PTRACE hides it if the process belongs to another
    # account. The command line stays visible.
    return f"postgres -D {data} " in f"{_command(process)} " or _is_postgres_in(process, data)


def _live_process(pid: int) -> psutil.Process | None:
    """Return the process with this id. Return None if no such process exists, or if it is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD} else process
    except psutil.NoSuchProcess:
        return None


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # the process has ended, or this account may not read its command line
        return ""


def _postgres_processes_in(data: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter() if _is_postgres_in(process, data)]


def _is_postgres_in(process: psutil.Process, data: Path) -> bool:
    """Tell whether a process belongs to the server of `data`: it is called postgres, and its working directory is `data`."""
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data
    except psutil.Error:  # the process has ended, is a zombie, or belongs to another account and is hidden
        return False
