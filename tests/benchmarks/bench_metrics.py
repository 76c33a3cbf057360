"""What metrics cost: weeks from the load to the model, by both listeners, with Prometheus' page read each second and without it.

Two databases have each a pair of listeners of their own. The pairs take turns with the same week. The CPU time is that of the
listeners with all their children, and of PostgreSQL, which computes the numbers. Prometheus itself reads a page every 15 s or
more seldom, so here the cost is at least fifteen times as high as usual.

Run it on a machine that does nothing else: a week that takes five times as long there is also scraped five times as often.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.request import urlopen

import psutil
import psycopg
from bench_ground import Ground, finish_load
from bench_measure import Report, Sample, alternate
from listener_processes import Listeners
from monitored_listeners import MonitoredListeners

from db.connect import connect
from db.database import Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.load import steps

STAGE = "metrics"
ROUNDS = 5
_INTERVAL_S = 1.0
_TARGET = 1.02
_DEADLINE_S = 1800.0


class Pipeline:
    """A database with its listeners, which work through one week after the other."""

    def __init__(self, ground: Ground, server: EmbeddedPostgres, name: str, kind: type[Listeners]):
        own = {"postgres_db": name, "state_path": ground.directory / name, "log_level": "WARNING"}
        self._ground, self._settings = ground, ground.settings.model_copy(update=own)
        self._database = prepare_embedded(self._settings, server)
        self.listeners = kind(self._database, self._settings)

    def week(self) -> None:
        """Load the next week, and wait for its model: for a notification, because to poll would cost more than the metrics."""
        with (
            self._database.connect(Role.READER, "benchmark wait", autocommit=True) as waiting,
            connect(self._database.conninfo(Role.LOADER), "benchmark load") as connection,
        ):
            waiting.execute("listen model_trained")
            plan = steps.check_current_state(connection, self._settings, self._ground.training_set)
            finish_load(connection, steps.load_increment(connection, plan, self._ground.training_set))
            if not list(waiting.notifies(timeout=_DEADLINE_S, stop_after=1)):
                raise TimeoutError(f"no model within {_DEADLINE_S:.0f} s")


def run(ground: Ground) -> Report:
    report = Report()
    with (
        ExitStack() as stack,
        EmbeddedPostgres(
            ground.directory / "postgres", bindir=ground.settings.pg_bindir, durable=False
        ) as server,
    ):
        without = Pipeline(ground, server, "without", Listeners)
        scraped = Pipeline(ground, server, "scraped", MonitoredListeners)
        for pipeline in (without, scraped):
            stack.callback(pipeline.listeners.kill)
            pipeline.listeners.start()
        postmaster = _postmaster(server)
        answers: list[int] = []
        samples = report.samples["metrics of a week"] = alternate(
            {
                "without": lambda: _measured(without, postmaster),
                "scraped": lambda: _measured(scraped, postmaster, answers),
            },
            ROUNDS,
        )
    what = f"a week with both pages read each second ({len(answers):,} pages, {sum(answers) / len(answers):,.0f} bytes) / without"
    report.compare(STAGE, what, samples, "scraped", "without", at_most=_TARGET)
    return report


def _measured(pipeline: Pipeline, postmaster: psutil.Process, answers: list[int] | None = None) -> Sample:
    roots = [postmaster, *(psutil.Process(process.pid) for process in pipeline.listeners.processes.values())]
    cpu_before, wall_before = _cpu_s(roots), time.perf_counter()
    if answers is None:
        pipeline.week()
    else:
        with _scraping(list(pipeline.listeners.ports.values()), answers):
            pipeline.week()
    return Sample(time.perf_counter() - wall_before, _cpu_s(roots) - cpu_before)


@contextmanager
def _scraping(ports: list[int], answers: list[int]) -> Iterator[None]:
    """Read each page once a second, in a thread, and note the length of each answer."""
    stopped = threading.Event()

    def scrape() -> None:
        while not stopped.wait(_INTERVAL_S):
            for port in ports:
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                    answers.append(len(answer.read()))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _cpu_s(roots: list[psutil.Process]) -> float:
    """The CPU seconds of these processes and of all their descendants, also of those that have ended."""
    seconds = 0.0
    for root in roots:
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:4])
    return seconds


def _postmaster(server: EmbeddedPostgres) -> psutil.Process:
    with psycopg.connect(server.conninfo()) as connection:
        return psutil.Process(connection.info.backend_pid).parent()
