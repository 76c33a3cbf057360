"""From a commit until somebody acts on it: ours beside what people would otherwise take, alternated in one run.

Two questions, each from just before COMMIT is sent until the first line of a callback or handler in another process:
- how soon is a notification heard? `listen` (aiopg) beside psycopg 3's `notifies()` in the loop one writes by hand;
- how soon does the handler of a claimed piece of work begin? A listener of ours, whose handler runs in a child process,
  beside procrastinate, pgqueuer and SKIP LOCKED by hand, whose handlers run in the worker itself.

Everybody is idle when an event comes: the next one is sent when the last is recorded as finished, the worker's processes
sleep again, and a random pause has passed. Each system has a database of its own on the same server; the workers of those
whose turn it is not are idle too. Times are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import bench_latency_rivals as rivals
import numpy as np
import psutil
import psycopg
from bench_measure import Report
from latency_handler import SOCKET

from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.load.steps import Connection
from shared.config import read_settings

STAGE = "latency"
_BLOCKS = 10
_WARM_UP = 20
_PAUSE_S = (0.001, 0.005)
_POLL_S = 0.0005
_QUIET_S = 0.002
_DEADLINE_S = 60.0
_AT_MOST = 1.1

_NOTIFIED, _STARTED = "commit to callback", "commit to handler"
_OURS, _RIVALS = "bench_latency_ours", rivals.__name__


@dataclass(frozen=True)
class System:
    """One way to act on a commit.

    Attributes:
        send: within a transaction, make what is to be acted on; returns the number that the worker will report.
        worker: the module whose `main` it is, and its first argument.
        role: the worker's login; the superuser where there is none.
        install: make the schema; ours is there already.
        finished: a query that says whether the number's work is recorded, True where there is nothing to record.
    """

    question: str
    name: str
    send: Callable[[Connection, int], int]
    worker: tuple[str, str]
    role: str = ""
    install: Callable[[str], None] = lambda _conninfo: None
    finished: str = "select true"


def _complete_batch(connection: Connection, number: int) -> int:
    statement = (
        "insert into data_loads (batch_name, percentage, status) values (%s, 1, 'completed') returning id"
    )
    row = connection.execute(statement, [f"week_{number}"]).fetchone()
    assert row is not None
    batch_id: int = row[0]
    return batch_id


_SYSTEMS = (
    System(_NOTIFIED, "ours", rivals.notify, (_OURS, "listen")),
    System(_NOTIFIED, "psycopg 3", rivals.notify, (_RIVALS, "listen")),
    System(
        _STARTED,
        "ours",
        _complete_batch,
        (_OURS, "work"),
        role=Role.SNAPSHOT,
        finished="select metadata #>> '{snapshot,state}' = 'finished' from data_loads where id = %(number)s",
    ),
    System(
        _STARTED,
        "psycopg 3",
        rivals.enqueue,
        (_RIVALS, "claim"),
        install=rivals.install_queue,
        finished="select finished from queue where number = %(number)s",
    ),
    System(
        _STARTED,
        "procrastinate",
        rivals.defer,
        (_RIVALS, "procrastinate"),
        install=rivals.install_procrastinate,
        finished="select not exists (select from procrastinate_jobs)",
    ),
    System(
        _STARTED,
        "pgqueuer",
        rivals.enqueue_pgqueuer,
        (_RIVALS, "pgqueuer"),
        install=rivals.install_pgqueuer,
        finished="select not exists (select from pgqueuer)",
    ),
)


class Measured:
    """A system at work: its producer's connection, the worker's process and what it reports."""

    def __init__(
        self, system: System, connection: Connection, worker: psutil.Process, reports: socket.socket
    ) -> None:
        self.system = system
        self.latencies_ms: list[float] = []
        self._connection = connection
        self._worker = worker
        self._reports = reports
        self._number = 0

    def run(self, events: int, *, count: bool = True) -> None:
        for _ in range(events):
            latency_ms = self._send_one()
            if count:
                self.latencies_ms.append(latency_ms)

    def wait_until_listening(self) -> None:
        """Whoever only listens says so first; whoever works finds what was sent before."""
        if self.system.question == _NOTIFIED:
            self._receive()

    def _send_one(self) -> float:
        self._number += 1
        with self._connection.transaction():
            expected = self.system.send(self._connection, self._number)
            committed_ns = time.monotonic_ns()
        number, began_ns = self._receive()
        if number != expected:
            raise RuntimeError(f"{self.system.name} answered {number} to {expected}")
        self._wait_until_finished(number)
        self._wait_until_idle()
        time.sleep(random.uniform(*_PAUSE_S))
        return (began_ns - committed_ns) / 1e6

    def _receive(self) -> tuple[int, int]:
        number, at_ns = self._reports.recv(64).split()
        return int(number), int(at_ns)

    def _wait_until_finished(self, number: int) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while self._connection.execute(self.system.finished, {"number": number}).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.system.name} does not finish {number}")
            time.sleep(_POLL_S)

    def _wait_until_idle(self) -> None:
        before, now = None, self._activity()
        while now is None or now != before:
            time.sleep(_QUIET_S)
            before, now = now, self._activity()

    def _activity(self) -> dict[int, object] | None:
        """How often each of the worker's processes has gone to sleep; None while one runs, or has just ended."""
        processes = [self._worker, *self._worker.children(recursive=True)]
        try:
            if all(process.status() == psutil.STATUS_SLEEPING for process in processes):
                return {process.pid: process.num_ctx_switches() for process in processes}
        except psutil.NoSuchProcess:
            pass
        return None


def run(events: int) -> Report:
    """Measure every system on that many events, in blocks that take turns."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="rakuten-latency-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        bindir = read_settings(_env_file=None).pg_bindir
        server = stack.enter_context(EmbeddedPostgres(directory / "postgres", bindir=bindir, durable=False))
        measured = [
            stack.enter_context(_at_work(system, server, directory / str(position)))
            for position, system in enumerate(_SYSTEMS)
        ]
        for one in measured:
            one.wait_until_listening()
            one.run(_WARM_UP, count=False)
        for block in range(_BLOCKS):
            first = block % len(measured)
            for one in measured[first:] + measured[:first]:
                one.run(max(1, events // _BLOCKS))
    return _report(measured)


@contextmanager
def _at_work(system: System, server: EmbeddedPostgres, directory: Path) -> Iterator[Measured]:
    """The system's database, its worker and its producer; the worker ends with the block."""
    directory.mkdir()
    name = f"system_{directory.name}"
    database = Database(read_settings(postgres_db=name, state_path=directory, _env_file=None), server)
    prepare_embedded(database.settings, server)
    system.install(server.conninfo(name))
    address = str(directory / SOCKET)
    module, argument = system.worker
    start = f"from {module} import main; main()"
    conninfo = database.conninfo(Role(system.role)) if system.role else server.conninfo(name)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports,
        psycopg.connect(server.conninfo(name), autocommit=True) as connection,
    ):
        reports.bind(address)
        reports.settimeout(_DEADLINE_S)
        command = [sys.executable, "-c", start, argument, conninfo, address]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parent)
        try:
            yield Measured(system, connection, psutil.Process(worker.pid), reports)
        finally:
            worker.terminate()
            worker.wait()


def _report(measured: list[Measured]) -> Report:
    report = Report()
    for question in (_NOTIFIED, _STARTED):
        latencies = {
            one.system.name: np.array(one.latencies_ms) for one in measured if one.system.question == question
        }
        for name, values in latencies.items():
            report.add(STAGE, f"{question}: {name}", tuple(values.tolist()), "ms")
            report.add(STAGE, f"{question}: {name}, p99", float(np.quantile(values, 0.99)), "ms")
        ours = latencies.pop("ours")
        for rival, values in latencies.items():
            for what, quantile in (("p50", 0.5), ("p99", 0.99)):
                ratio = float(np.quantile(ours, quantile) / np.quantile(values, quantile))
                # by hand the row stays locked while the handler runs, in the worker: nothing to commit, and nobody to hand over to
                at_most = None if (question, rival) == (_STARTED, "psycopg 3") else _AT_MOST
                report.add(STAGE, f"{question}: ours / {rival}, {what}", ratio, "x", at_most=at_most)
    return report
