"""The frame of a worker process of bench_latency: it tells the benchmark when its callback or handler began, and ends with it.

    python -c 'from MODULE import main; main()' WORKER CONNINFO SOCKET

A module and no script: the main module of a worker of ours is run again in each of its children.
"""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any


class Reports:
    """The way back to the benchmark. Call it on a handler's second line, with the time that the first has taken."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(address)

    def __call__(self, number: int, began_ns: int) -> None:
        self._socket.send(f"{number} {began_ns}".encode())

    def ready(self) -> None:
        self(0, 0)


Worker = Callable[[str, Reports], Coroutine[Any, Any, None]]


def run_worker(workers: Mapping[str, Worker], run: Callable[..., None] = asyncio.run) -> None:
    """Run the one that the command line names until standard input closes: the benchmark has ended, however it did."""
    name, conninfo, address = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run(workers[name](conninfo, Reports(address)))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)
