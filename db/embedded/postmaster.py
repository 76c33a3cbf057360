"""Find the postmaster (main server process) of a data directory, and remove what a killed server left behind.

A pid file does not prove that a server runs. After a crash, its pid may belong to no process, to a zombie or to another
program. So a process counts as the postmaster of a directory only if its command line or its working directory names the
directory.
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

# The server's command line has this setting with the pid of the owner, the process that started the server. Other processes
# read the pid there. PostgreSQL itself ignores settings that it does not know, if their name has a dot.
OWNER_SETTING = "embedded.owner_pid"

_FAST_SHUTDOWN_TIMEOUT_S = 30
_IMMEDIATE_SHUTDOWN_TIMEOUT_S = 20  # 5 s after SIGQUIT, the postmaster kills its children that still run
_ORPHANS_TIMEOUT_S = 20


@dataclass(frozen=True)
class Postmaster:
    """A running postmaster (main server process) that was found to serve the data directory in question."""

    pid: int
    port: int | None  # None until the starting server has written its port to the pid file
    accepts_connections: bool
    orphaned: bool  # the process that started it has ended, so its watchdog is about to stop it


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
        # The owner is the server's parent process. If the owner ends, the server gets another parent. So a new process that
        # gets the owner's old pid is not mistaken for the owner.
        orphaned=owner is not None and int(owner[1]) != process.ppid(),
    )


def is_postmaster_of(pid: int, data: Path) -> bool:
    """Tell whether the process `pid` is alive and is the postmaster of `data`."""
    process = _live_process(pid)
    return process is not None and _serves(process, data)


def clear_leftovers(data: Path) -> None:
    """End the backend processes of a killed postmaster, and remove its pid file.

    Call this only if no postmaster serves the directory. PostgreSQL removes a stale pid file by itself, with one exception: the
    pid now belongs to a zombie or to any process with PostgreSQL's uid. Then PostgreSQL takes this process for the old
    postmaster and does not start. It also does not start while old backends hold the shared memory.

    Raises:
        DatabaseUnavailableError: a backend does not end.
    """
    # A backend that waits for its client notices the postmaster's death and ends. A busy backend would continue its statement,
    # and even commit.
    for pid in _postgres_processes_in(data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    if not poll(lambda: not _postgres_processes_in(data), timeout_s=_ORPHANS_TIMEOUT_S):
        pids = ", ".join(map(str, _postgres_processes_in(data)))
        raise DatabaseUnavailableError(
            f"processes of a killed server still work in {data}: {pids}", remedy="end them, then try again"
        )
    (data / "postmaster.pid").unlink(missing_ok=True)


def shut_down(send: Callable[[signal.Signals], None], has_ended: Callable[[], bool]) -> bool:
    """Stop a postmaster with a fast shutdown or, after 30 s, with an immediate shutdown. Neither loses a commit.

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
    """Return the pid, the port and the status in a server's pid file, or None if it has no valid pid.

    PostgreSQL's miscadmin.h documents the lines of the file. A starting server writes the pid first and the last lines later.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    # PostgreSQL in single-user mode writes a negative pid. os.kill() would then signal a whole process group.
    if pid <= 1:
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else None  # noqa: PLR2004
    return _PidFile(pid, port, status=lines[7].strip() if len(lines) > 7 else "")  # noqa: PLR2004


def _serves(process: psutil.Process, data: Path) -> bool:
    # Containers without CAP_SYS_PTRACE hide the working directory of another account's process, but not its command line.
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
    """Tell whether a process is a live process of the server of `data`. All of them have `data` as working directory."""
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data
    except psutil.Error:  # the process has ended, is a zombie, or is hidden from this account
        return False
