"""Measure both stages on Apache Spark against the local engine, in one run: clock, CPU and memory of all processes together.

python tests/benchmarks/bench_spark.py --sizes 84916 849160 [--stages snapshot training]

A stage's work is measured in a process of its own, from the start of Spark to its end: one dataset, or one model of that dataset.
"""

import argparse
import json
import multiprocessing
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from bench_ground import prepared_ground
from bench_measure import MEBIBYTE

from db.connect import connect, connect_arrow
from db.database import Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.load.steps import load_week
from listeners.datasets.store import Store
from listeners.snapshot.dataset_digest import identity_of
from listeners.snapshot.local import build as build_locally
from listeners.snapshot.spark.build import Order, build
from listeners.snapshot.spark.read import Source
from listeners.spark.session import spark_session
from listeners.training.engine import Engine, Request
from listeners.training.local import fit_model as fit_locally
from listeners.training.model import block_sizes
from listeners.training.spark.engine import fit_model as fit_on_spark
from shared.config import Settings, configure_third_parties
from shared.hashing import sha256_of

_INTERVAL_S = 0.2
_ONE_LOAD = {"initial_percentage": 100}


@dataclass(frozen=True)
class Point:
    """What a stage has cost: seconds of the clock, seconds of CPU, and the most memory (PSS, so shared pages count once).

    `work_s` is the clock without the start and the end of Spark. `result` is the digest of a dataset, or how many terms a model knows.
    """

    stage: str
    engine: str
    rows: int
    wall_s: float
    work_s: float
    cpu_s: float
    peak_mb: float
    result: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[84_916])
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--stages", nargs="+", default=["snapshot", "training"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    configure_third_parties()
    points = []
    for rows in options.sizes:
        with prepared_ground(rows, **_ONE_LOAD, spark_master=options.master) as ground:
            settings = ground.settings
            with EmbeddedPostgres(settings.state_path / "postgres") as server:
                database = prepare_embedded(settings, server)
                with connect(database.conninfo(Role.LOADER), "benchmark load") as connection:
                    load_week(connection, settings, ground.training_set)
                conninfo = database.conninfo(Role.SNAPSHOT)
                for _ in range(options.rounds):
                    for stage in ("snapshot", "training")[: 1 + ("training" in options.stages)]:
                        pair = [
                            _measure(stage, engine, rows, conninfo, settings) for engine in ("local", "spark")
                        ]
                        points += pair
                        _show(*pair)
    if options.json:
        options.json.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n")


def _show(local: Point, spark: Point) -> None:
    for point in (local, spark):
        print(
            f"{point.rows:>9,} rows  {point.stage:8}  {point.engine:5}  {point.wall_s:7.1f} s clock (of it {point.work_s:.1f} s work)"
            f"  {point.cpu_s:7.1f} s CPU  {point.peak_mb:7,.0f} MB"
        )
    assert local.result == spark.result, f"the engines differ: {local.result} and {spark.result}"
    print(
        f"{'':>9}  Spark / local: clock x {spark.wall_s / local.wall_s:.1f} (work x {spark.work_s / local.work_s:.1f}),"
        f" CPU x {spark.cpu_s / local.cpu_s:.1f}, memory x {spark.peak_mb / local.peak_mb:.1f}; same {local.result}",
        flush=True,
    )


def _cpu_s() -> float:
    """The CPU time of this process and its descendants until now, also of those that have ended and been waited for."""
    me = psutil.Process()
    all_times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(times.user + times.system + times.children_user + times.children_system for times in all_times)


def _snapshot_local(conninfo: str, settings: Settings) -> tuple[float, str]:
    begun = time.perf_counter()
    path = settings.state_path / "local.parquet"
    with connect_arrow(conninfo, "benchmark") as connection:
        build_locally(connection, 1, settings.random_seed, path)
    return time.perf_counter() - begun, identity_of(path).digest


def _snapshot_spark(conninfo: str, settings: Settings) -> tuple[float, str]:
    folder = settings.state_path / "spark"
    shutil.rmtree(folder, ignore_errors=True)
    source = Source(conninfo, settings.spark_postgres_connections)
    with spark_session(settings, "benchmark") as session:
        begun = time.perf_counter()
        order = Order("d", 1, settings.random_seed, source, Store(str(folder)), 1, lambda: None)
        written = build(session, order)
        (settings.state_path / "manifest.sha256").write_text(
            f"{written.manifest.sha256} {written.folder.uri}"
        )
        return time.perf_counter() - begun, written.manifest.dataset_digest


def _training_local(_conninfo: str, settings: Settings) -> tuple[float, str]:
    path = settings.state_path / "local.parquet"
    return _train(fit_locally, settings, None, sha256_of(path))


def _training_spark(_conninfo: str, settings: Settings) -> tuple[float, str]:
    sha256, uri = (settings.state_path / "manifest.sha256").read_text().split()
    return _train(fit_on_spark, settings, uri, sha256)


def _train(fit: Engine, settings: Settings, uri: str | None, sha256: str) -> tuple[float, str]:
    path = settings.state_path / "local.parquet"
    begun = time.perf_counter()
    request = Request(
        settings, "benchmark", "linear_svm", settings.random_seed, lambda: path, uri, sha256, {}
    )
    model = fit(request).model
    return time.perf_counter() - begun, f"{sum(block_sizes(model.pipeline.named_steps['features'])):,} terms"


_WORK = {
    ("snapshot", "local"): _snapshot_local,
    ("snapshot", "spark"): _snapshot_spark,
    ("training", "local"): _training_local,
    ("training", "spark"): _training_spark,
}


def _measure(stage: str, engine: str, rows: int, conninfo: str, settings: Settings) -> Point:
    receive, send = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        work_s, result = _WORK[stage, engine](conninfo, settings)
        send.send((work_s, _cpu_s(), result))

    child = multiprocessing.get_context("fork").Process(target=work)
    begun = time.perf_counter()
    child.start()
    memory = _Memory(psutil.Process(child.pid))
    child.join()
    wall_s = time.perf_counter() - begun
    memory.stop()
    work_s, cpu_s, result = receive.recv()
    return Point(stage, engine, rows, wall_s, work_s, cpu_s, memory.peak_mb, result)


class _Memory:
    """The highest sum of the memory of a process and its descendants, looked at five times a second."""

    def __init__(self, root: psutil.Process) -> None:
        self._root, self.peak_mb, self._ended = root, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            held = 0
            with suppress(psutil.Error):
                for process in (self._root, *self._root.children(recursive=True)):
                    with suppress(psutil.Error):
                        held += process.memory_full_info().pss
            self.peak_mb = max(self.peak_mb, held / MEBIBYTE)


if __name__ == "__main__":
    main()
