"""What each stage costs as the data grows: CPU, time and memory against rows.

    python tests/benchmarks/growth.py [--sizes ROWS ...] [--training-up-to ROWS] [--json FILE] [--chart FILE]

For each size it generates that many training rows and loads all of them (40 %, then the rest), each load in a process of its own.
Two listeners, started before, hear of each batch, build its dataset and train its model, as in production: nothing is analyzed or
vacuumed by hand in between. The slope is that of the logarithms between the two largest sizes: 1 is linear. Everything is in a
temporary directory that is removed; 8,491,600 rows (a hundred times the challenge) want 60 GB of disk and half an hour.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from bench_ground import prepared_ground
from bench_measure import MEBIBYTE, Task, in_child
from rich.console import Console
from rich.table import Table

from db.batches import pipeline_status
from db.connect import connect
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.source.training_set import read_training_set
from rakuten.commands.load import load_week
from shared.config import Settings, configure_third_parties
from shared.events import Stage

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from listener_processes import Listeners

ROWS = 84_916  # of the challenge's training file
SIZES = (ROWS // 10, ROWS, 10 * ROWS)
_ONE_LOAD = {"initial_percentage": 40, "increment_percentage": 60}
_BATCHES = ("first week", "the rest")
_INTERVAL_S = 0.05

console = Console(width=None if sys.stdout.isatty() else 130)


@dataclass(frozen=True)
class Point:
    """One stage at one size. CPU is that of our processes and of PostgreSQL's together.

    Peak memory is of the one process of ours, and the one of PostgreSQL's, that needed most; the latter with what it shares.
    """

    stage: str
    rows: int
    worked_rows: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    backend_peak_mb: float | None


def main() -> None:
    options = _options()
    configure_third_parties()
    points: list[Point] = []
    for rows in sorted(options.sizes):
        for point in _measure(rows, with_training=rows <= options.training_up_to):
            points.append(point)
            console.print(
                f"{point.rows:,} rows: {point.stage}: {point.cpu_s:.1f} s CPU, {point.peak_mb:,.0f} MB"
            )
            if options.json is not None:  # kept as far as it came
                options.json.write_text(json.dumps([asdict(one) for one in points], indent=1) + "\n")
    console.print(_table(points))
    if options.chart is not None:
        draw(points, options.chart)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="training rows (%(default)s)")
    parser.add_argument(
        "--training-up-to", type=int, default=ROWS, help="the largest size to train on (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every point there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the figure there")
    return parser.parse_args()


def _measure(rows: int, *, with_training: bool) -> Iterator[Point]:
    stages = tuple(Stage) if with_training else (Stage.SNAPSHOT,)
    with prepared_ground(rows, **_ONE_LOAD) as ground, _server(ground.settings) as database:
        listeners = Listeners(database, ground.settings)
        try:
            listeners.start(*stages)
            for number, name in enumerate(_BATCHES, start=1):
                conninfo = database.conninfo(Role.LOADER)
                load = in_child(prepare_load, conninfo, ground.settings)
                worked, backend_cpu_s, backend_peak_mb = load.result
                cpu_s = load.sample.cpu_s + backend_cpu_s
                yield Point(
                    f"load, {name}", rows, worked, load.sample.wall_s, cpu_s, load.peak_mb, backend_peak_mb
                )
                for stage in stages:
                    yield _stage_point(listeners, stage, rows, number, name)
        finally:
            listeners.stop()


def _stage_point(listeners: Listeners, stage: Stage, rows: int, number: int, name: str) -> Point:
    """Wait until the stage has finished the batch. CPU is that of the listener, its children and PostgreSQL's backends."""
    with connect(listeners.database.conninfo(Role.READER), "growth", autocommit=True) as connection:
        ours = Usage(psutil.Process(listeners.processes[stage].pid))
        backends = Usage(psutil.Process(connection.info.backend_pid).parent())
        while True:
            row = pipeline_status(connection)[number - 1]
            ours.look()
            backends.look()
            if row[f"{stage}_state"] == "finished":
                break
            if row[f"{stage}_error"] or listeners.processes[stage].poll() is not None:
                raise RuntimeError(f"{stage} failed: {row[f'{stage}_error']}; see {listeners.logs[stage]}")
            time.sleep(_INTERVAL_S)
    return Point(
        f"{stage}, {name}",
        rows,
        row["snapshot_rows"],
        row[f"{stage}_claim_to_done_s"],
        ours.cpu_s + backends.cpu_s,
        ours.peak_mb,
        backends.peak_mb if stage is Stage.SNAPSHOT else None,
    )


class Usage:
    """CPU seconds since the first look, and peak memory, of a process and its descendants: as far as `look` has seen them."""

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._cpu_s: dict[int, float] = {}
        self._peaks: dict[int, float] = {}
        self.look()
        self._before = dict(self._cpu_s)

    def look(self) -> None:
        for process in (self._root, *self._root.children(recursive=True)):
            with suppress(psutil.Error):
                self._cpu_s[process.pid], self._peaks[process.pid] = _cpu_and_peak(process)

    @property
    def cpu_s(self) -> float:
        return sum(cpu_s - self._before.get(pid, 0.0) for pid, cpu_s in self._cpu_s.items())

    @property
    def peak_mb(self) -> float:
        """Of the one process that has needed most."""
        return max(self._peaks.values())


@contextmanager
def _server(settings: Settings) -> Iterator[Database]:
    with EmbeddedPostgres(settings.state_path / "postgres") as server:
        prepare_embedded(settings, server)
        yield Database(settings, server)


def prepare_load(conninfo: str, settings: Settings) -> Task:
    """In a child: `rakuten load` of one batch, from the files to the seal."""

    def work() -> tuple[int, float, float]:
        with connect(conninfo, "growth load") as connection:
            training_set = read_training_set(
                settings.data_path, settings.random_seed, settings.holdout_percentage
            )
            report = load_week(connection, settings, training_set)
            assert report is not None
            return int(report["new_rows"]), *_cpu_and_peak(psutil.Process(connection.info.backend_pid))

    return Task(work, tuple)


def _cpu_and_peak(process: psutil.Process) -> tuple[float, float]:
    """CPU seconds of a process since it began, and the most memory it held, in MB (now, where the kernel does not tell)."""
    peak = process.memory_info().rss / MEBIBYTE
    with suppress(OSError, ValueError):  # a process that has ended, but is not reaped, has no such line
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        [line] = [line for line in lines if line.startswith("VmHWM:")]
        peak = int(line.split()[1]) / 1024
    times = process.cpu_times()
    return times.user + times.system, peak


def _of_stages(points: list[Point]) -> dict[str, list[Point]]:
    stages: dict[str, list[Point]] = {}
    for point in points:
        stages.setdefault(point.stage, []).append(point)
    return stages


def slope(points: list[Point]) -> float | None:
    """How CPU grows with rows between the two largest sizes: 1 is linear, 2 quadratic."""
    if len(points) < 2:
        return None
    smaller, larger = points[-2:]
    return math.log(larger.cpu_s / smaller.cpu_s) / math.log(larger.rows / smaller.rows)


def _table(points: list[Point]) -> Table:
    table = Table(
        title="cost against rows", caption="slope: of the logarithms of CPU, between the two largest sizes"
    )
    for name in ("stage", "rows", "CPU s", "wall s", "µs CPU a row", "peak MB", "backend MB", "slope"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage, of_stage in _of_stages(points).items():
        steepness = slope(of_stage)
        for point in of_stage:
            is_last = point is of_stage[-1]
            table.add_row(
                stage if point is of_stage[0] else "",
                f"{point.rows:,}",
                f"{point.cpu_s:.1f}",
                f"{point.wall_s:.1f}",
                f"{1e6 * point.cpu_s / point.rows:.0f}",
                f"{point.peak_mb:,.0f}",
                "" if point.backend_peak_mb is None else f"{point.backend_peak_mb:,.0f}",
                f"{steepness:.2f}" if is_last and steepness is not None else "",
                end_section=is_last,
            )
    return table


def draw(points: list[Point], path: Path) -> None:
    """CPU and peak memory of each stage against rows, both axes logarithmic, with a line of slope 1 to compare."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    cost, memory = figure.subplots(1, 2)
    for stage, of_stage in _of_stages(points).items():
        rows = [point.rows for point in of_stage]
        cost.plot(rows, [point.cpu_s for point in of_stage], marker="o", label=stage)
        memory.plot(rows, [point.peak_mb for point in of_stage], marker="o", label=stage)
    ends = sorted({point.rows for point in points})
    cheapest = min(point.cpu_s for point in points if point.rows == ends[0])
    linear = [cheapest * rows / ends[0] for rows in (ends[0], ends[-1])]
    cost.plot([ends[0], ends[-1]], linear, color="#999", linestyle=":", label="linear")
    memory.axhline(4096, color="#999", linestyle=":", label="4 GB")
    panels = (
        (cost, "CPU, seconds", "upper left"),
        (memory, "peak memory of our process, MB", "lower right"),
    )
    for axes, what, corner in panels:
        axes.set(xscale="log", yscale="log", xlabel="training rows", title=what)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc=corner)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
