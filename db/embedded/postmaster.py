"""What serves a data directory: its pid file, the process behind it, and what a killed server left behind.

A pid file proves nothing: after a crash its pid may be nobody's, a zombie's, or another program's. So a
process counts as the postmaster of a directory only if its command line or its working directory says so.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from db.embedded.waiting import poll
from shared.errors import DatabaseUnavailableError

# Shown to others on the server's command line: a custom setting, so that PostgreSQL keeps and ignores it.
OWNER_SETTING = "embedded.owner_pid"

_PS_TIMEOUT_S = 10
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


@dataclass(frozen=True)
class _Process:
    parent_pid: int
    command: str


def find_postmaster(data: Path) -> Postmaster | None:
    """The live postmaster of a data directory; leftovers of a dead one do not count."""
    pid_file = _read_pid_file(data)
    if pid_file is None:
        return None
    process = _find_process(pid_file.pid)
    if process is None or not _serves(pid_file.pid, process, data):
        return None
    owner = re.search(rf"{re.escape(OWNER_SETTING)}=(\d+)", process.command)
    return Postmaster(
        pid=pid_file.pid,
        port=pid_file.port,
        accepts_connections=pid_file.port is not None and pid_file.status == "ready",
        # An orphan gets another parent, so a recycled pid cannot make a dead owner look alive.
        doomed=owner is not None and int(owner[1]) != process.parent_pid,
    )


def is_postmaster_of(pid: int, data: Path) -> bool:
    """Whether the process `pid` lives and is the postmaster of `data`."""
    process = _find_process(pid)
    return process is not None and _serves(pid, process, data)


def clear_leftovers(data: Path) -> None:
    """Remove what a killed postmaster left: its backends and its pid file. Only for a directory nobody serves.

    PostgreSQL would clear a stale pid file by itself, but takes any live process of its own uid, and any
    zombie, for the old postmaster; and it does not start while old backends hold the shared memory. Without
    /proc the backends are left to end by themselves.

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


def _serves(pid: int, process: _Process, data: Path) -> bool:
    # Containers without CAP_SYS_PTRACE hide the working directory of other accounts, not the command line.
    return f"postgres -D {data} " in f"{process.command} " or _is_postgres_in(pid, data)


def _find_process(pid: int) -> _Process | None:
    """A live process: a zombie is None."""
    return _read_proc(pid) if Path("/proc/self/stat").exists() else _ask_ps(pid)


def _read_proc(pid: int) -> _Process | None:
    try:
        # The name, in brackets, may itself hold spaces and brackets: state and parent follow the last one.
        state, parent_pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if state in "ZX":
        return None
    return _Process(int(parent_pid), os.fsdecode(command.rstrip(b"\0").replace(b"\0", b" ")))


def _ask_ps(pid: int) -> _Process | None:
    """For systems without /proc, such as macOS."""
    answer = subprocess.run(
        ["/bin/ps", "-ww", "-o", "stat=", "-o", "ppid=", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=_PS_TIMEOUT_S,
        check=False,
    )
    state, _, rest = answer.stdout.strip().partition(" ")
    parent_pid, _, command = rest.strip().partition(" ")
    if not parent_pid or state.startswith("Z"):
        return None
    return _Process(int(parent_pid), command.strip())


def _postgres_processes_in(data: Path) -> list[int]:
    return [
        int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _is_postgres_in(int(entry.name), data)
    ]


def _is_postgres_in(pid: int, data: Path) -> bool:
    """Whether the live process `pid` is a postgres that works in `data`, as every process of a server does."""
    process = Path(f"/proc/{pid}")
    try:
        return (process / "cwd").readlink() == data and (process / "comm").read_text().strip() == "postgres"
    except OSError:  # gone, a zombie, not ours to see, or no /proc at all
        return False
