"""What Linux says about the processes of this machine, and signals for many of them."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def program_of(pid: int) -> str:
    """`java`, or `python` in any version."""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return "python" if name.startswith("python") else name
    return ""


def session_of(leader: int) -> Iterator[int]:
    """The living processes of a session."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal():
                state, _parent, _group, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == leader and state != "Z":
                    yield int(folder.name)


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def listening_ports(pids: list[int]) -> set[int]:
    """The TCP ports on which processes listen."""
    inodes = set()
    for pid in pids:
        with suppress(OSError):
            inodes |= {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def data_bytes(pid: int) -> int:
    """The memory that a process has for its data, which RLIMIT_DATA limits."""
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmData")
    ]
    return int(line.split()[1]) * 1024


def is_alive(pid: int) -> bool:
    """Whether a process runs or stands still, and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
