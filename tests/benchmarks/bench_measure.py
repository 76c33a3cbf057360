"""How the benchmarks measure: alternated calls timed in one process, and peaks of memory in a process of their own.

The machine is shared and noisy, so nothing is compared across runs: variants take turns within a round, a ratio is taken
within its round, and the median of the rounds counts. CPU time is the clock that a neighbour disturbs least.
"""

import gc
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import psutil

from db.connect import ArrowConnection

_NANOSECONDS = 1e9
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Sample:
    """Seconds of one call: by the clock on the wall, and of CPU in all processes concerned."""

    wall_s: float
    cpu_s: float


Samples = dict[str, list[Sample]]
Measured = TypeVar("Measured")  # a Sample, or the ChildRun that holds one


@dataclass
class _Measured:
    sample: Sample | None = None


@contextmanager
def measured(backend_pid: int | None = None) -> Iterator[_Measured]:
    """Measure the block: this process and, where one is named, a PostgreSQL backend with its parallel workers."""
    backend = psutil.Process(backend_pid) if backend_pid else None
    result = _Measured()
    gc.collect()
    server_before = _server_cpu_s(backend)
    cpu_before, wall_before = time.process_time(), time.perf_counter()
    yield result
    wall_s, cpu_s = time.perf_counter() - wall_before, time.process_time() - cpu_before
    result.sample = Sample(wall_s, cpu_s + _server_cpu_s(backend) - server_before)


def timed(action: Callable[[], object], backend_pid: int | None = None) -> Sample:
    """The sample of one call."""
    with measured(backend_pid) as result:
        action()
    assert result.sample is not None
    return result.sample


def backend_pid(connection: ArrowConnection) -> int:
    """The process of PostgreSQL's that serves the connection."""
    [batch] = connection.read("select pg_backend_pid() as pid")
    return batch["pid"][0].as_py()


def _server_cpu_s(backend: psutil.Process | None) -> float:
    """The backend's own time, and that of workers that have ended: the postmaster has reaped them."""
    if backend is None:
        return 0.0
    reaped = backend.parent().cpu_times()
    return _cpu_s(backend) + reaped.children_user + reaped.children_system


def _cpu_s(process: psutil.Process) -> float:
    with suppress(OSError):  # the scheduler's own count on Linux, in nanoseconds; elsewhere ticks of 10 ms
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / _NANOSECONDS
    times = process.cpu_times()
    return times.user + times.system


def alternate(
    variants: Mapping[str, Callable[[], Measured]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[Measured]]:
    """Let the variants take turns, in another order each round; a first round that warms everything up does not count."""
    samples: dict[str, list[Measured]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(-1 if warm_up else 0, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            sample = variants[name]()
            if number >= 0:
                samples[name].append(sample)
    return samples


def ratios(
    samples: Samples, name: str, base: str, clock: Literal["cpu_s", "wall_s"] = "cpu_s"
) -> tuple[float, ...]:
    """What `name` costs in multiples of `base`, once a round."""
    pairs = zip(samples[name], samples[base], strict=True)
    return tuple(getattr(one, clock) / getattr(other, clock) for one, other in pairs)


@dataclass(frozen=True)
class Finding:
    """One line of the table: values of a quantity, and the target that their median is held against, if there is one."""

    stage: str
    what: str
    values: tuple[float, ...]
    unit: str = "x"
    at_most: float | None = None
    at_least: float | None = None
    wall: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """None for a line that has no target."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.median >= self.at_least
        return above and (self.at_most is None or self.median <= self.at_most)


@dataclass
class Report:
    """What a stage's benchmark found, and the raw numbers behind it."""

    findings: list[Finding] = field(default_factory=list)
    samples: dict[str, Samples] = field(default_factory=dict)

    def compare(
        self, stage: str, what: str, samples: Samples, name: str, base: str, **targets: float
    ) -> None:
        """Add the CPU ratio of two variants, held against its target, and the wall-clock ratio beside it."""
        values = ratios(samples, name, base)
        wall = ratios(samples, name, base, "wall_s")
        self.findings.append(Finding(stage, what, values, wall=wall, **targets))

    def add(
        self, stage: str, what: str, values: float | tuple[float, ...], unit: str, **targets: float
    ) -> None:
        several = values if isinstance(values, tuple) else (values,)
        self.findings.append(Finding(stage, what, several, unit, **targets))


@dataclass(frozen=True)
class Task:
    """What a child process does: `work` is measured, `summarise` turns its result into what the parent wants to know."""

    work: Callable[[], Any]
    summarise: Callable[[Any], Any] = lambda _result: None


@dataclass(frozen=True)
class ChildRun:
    """One task in a process of its own. Memory in bytes: the process's peak, and what it held before the work began."""

    result: Any
    sample: Sample
    peak_bytes: int
    baseline_bytes: int

    @property
    def peak_mb(self) -> float:
        return self.peak_bytes / MEBIBYTE

    @property
    def extra_mb(self) -> float:
        return (self.peak_bytes - self.baseline_bytes) / MEBIBYTE


def in_child(prepare: Callable[..., Task], *arguments: object) -> ChildRun:
    """Run `prepare(*arguments)` and then its task in a fresh interpreter.

    Args:
        prepare: a function of a module, which is imported in the child; it imports and reads whatever is not to count.
        arguments: picklable.

    Raises:
        RuntimeError: the child failed; its traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run_task, args=(sender, prepare, arguments))
    child.start()
    sender.close()
    try:
        run: ChildRun = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{prepare.__module__}.{prepare.__name__} failed in its child process") from None
    finally:
        child.join()
    return run


def in_usual_child(prepare: Callable[..., Task], *arguments: object) -> ChildRun:
    """`in_child` for what people usually write: Arrow has the allocator that it has unless told otherwise."""
    with patch.dict("os.environ") as environment:
        environment.pop("ARROW_DEFAULT_MEMORY_POOL", None)
        return in_child(prepare, *arguments)


def _run_task(sender: Any, prepare: Callable[..., Task], arguments: tuple[object, ...]) -> None:
    task = prepare(*arguments)
    gc.collect()
    reset_peak()
    baseline = psutil.Process().memory_info().rss
    with measured() as result:
        outcome = task.work()
    peak = peak_bytes()
    assert result.sample is not None
    sender.send(ChildRun(task.summarise(outcome), result.sample, peak, baseline))


def reset_peak(pid: int | None = None) -> None:
    """Let the peak of a process, this one if none is named, begin at what it holds now."""
    with suppress(OSError):  # Linux only; elsewhere the peak includes what was read before the work
        Path(f"/proc/{pid or 'self'}/clear_refs").write_text("5")


def peak_bytes(pid: int | None = None) -> int:
    """The most that a process, this one if none is named, has held in bytes since its peak was last reset."""
    # ru_maxrss cannot be reset
    with suppress(OSError):
        lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
        [peak] = [line for line in lines if line.startswith("VmHWM:")]
        return int(peak.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
