"""Measure the exchange of the model when the champion moves: the time until the new version answers, and the memory."""

import ctypes
import gc
import itertools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import psycopg
from bench_measure import MEBIBYTE, Task, in_child, peak_bytes, reset_peak
from bench_serving_client import ask_until
from bench_serving_servers import Server

from db.database import Database, Role
from listeners.promotion.rollback import roll_back
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from shared.events import Channel

_DEADLINE_S = 60.0
VERSIONS = (1, 2)


@dataclass(frozen=True)
class Swap:
    """One move of the champion, while one client asks all the time.

    Attributes:
        answered_s: from the commit until the first answer by the new version was complete. The commit counts from when another
            process that listens is notified of it, as the server is.
        loading_s: of that, from when the server begins to load the model until it serves it: download, check, load, first prediction.
        slowest_ms: the longest that the client waited for an answer.
        peak_mb: the most memory that the server has held.
        afterwards_mb: what it holds when its memory stands still again.
    """

    answered_s: float
    loading_s: float
    slowest_ms: float
    peak_mb: float
    afterwards_mb: float


def measure_swaps(database: Database, server: Server, request: bytes, moves: int) -> list[Swap]:
    """Move the champion back and forth between two versions."""
    tracking = Tracking(database.settings)
    champion = registry.champion(tracking)
    assert champion is not None
    others = [version for version in VERSIONS if version != int(champion.version)]
    targets = itertools.islice(itertools.cycle([*others, int(champion.version)]), moves)
    with (
        psycopg.connect(database.conninfo(Role.READER), autocommit=True) as listening,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as client,
    ):
        client.submit(ask_until, server.endpoint.port, request, int(champion.version)).result()  # starts it
        listening.execute(f"listen {Channel.CHAMPION_MOVED}")
        return [_swap(tracking, database, server, request, listening, client, target) for target in targets]


def _swap(
    tracking: Tracking,
    database: Database,
    server: Server,
    request: bytes,
    listening: "psycopg.Connection[tuple[object, ...]]",
    client: ProcessPoolExecutor,
    target: int,
) -> Swap:
    reset_peak(server.process.pid)
    with ThreadPoolExecutor(1) as thread:
        # in a process of its own, so that it does not wait for the move's own work
        answering = client.submit(ask_until, server.endpoint.port, request, target)
        notified = thread.submit(_notified_ns, listening)
        roll_back(tracking, database.conninfo(Role.TRAINING), target, reason="benchmark", by="benchmark")
        answers, committed_ns = answering.result(), notified.result()
    afterwards_mb = server.rss_bytes() / MEBIBYTE  # waits, so the peak is complete
    return Swap(
        answered_s=(answers[-1].received_ns - committed_ns) / 1e9,
        loading_s=(server.logged("serving")[-1] - server.logged("loading the champion")[-1]).total_seconds(),
        slowest_ms=max(answer.ms for answer in answers),
        peak_mb=peak_bytes(server.process.pid) / MEBIBYTE,
        afterwards_mb=afterwards_mb,
    )


def _notified_ns(listening: "psycopg.Connection[tuple[object, ...]]") -> int:
    for _ in listening.notifies(timeout=_DEADLINE_S, stop_after=1):
        return time.monotonic_ns()
    raise TimeoutError("no notification of the move")


def model_mb(folder: Path) -> float:
    """The memory of a model: by how much the memory of a process that has loaded and used it grows when it does so again.

    So what comes once with the first model, such as the modules that it imports, does not count.
    """
    growth_mb: float = in_child(prepare_model, folder).result
    return growth_mb


def prepare_model(folder: Path) -> Task:
    """In a child: a model is loaded already, and another one comes."""
    from listeners.serving.model import ModelInfo, ServedModel  # noqa: PLC0415  not in the other children

    load = partial(ServedModel, folder, ModelInfo(str(folder), None, None, ""))
    first = load()
    before = _rss_at_rest()

    def growth_mb() -> float:
        models = [first, load()]
        growth = _rss_at_rest() - before
        del models
        return growth / MEBIBYTE

    return Task(growth_mb, lambda growth: growth)


def _rss_at_rest() -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    rss: int = psutil.Process().memory_info().rss
    return rss
