"""A fault, and one run of it: a week is loaded, the fault comes and goes, and what becomes of the week is measured."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import invariants
from breakpoints import Boundary, Breakpoint, breakpoint_at
from environment import Environment
from measure import DEADLINE_S, is_back, is_done, is_idle, listening, wait_until

from shared.events import Stage


class Run:
    """What a fault has in its hands."""

    def __init__(self, environment: Environment):
        self.environment = environment
        self.batch_ids: list[int] = []
        self.ghosts: set[int] = set()
        self.problems: list[str] = []
        self.ended_at: float | None = None
        # what the fault is about, where that is not the time until all are back
        self.measured_s: float | None = None
        self.notes: dict[str, float] = {}  # what else was measured

    def load(self) -> int:
        """Load a week, past the proxies."""
        self.batch_ids.append(self.environment.load())
        return self.batch_ids[-1]

    def breakpoint(self, stage: Stage, boundary: Boundary) -> AbstractContextManager[Breakpoint]:
        return breakpoint_at(self.environment.breakpoints, stage, boundary)

    def lose(self, *pids: int) -> None:
        """Count these backends as nobody's from now on."""
        self.ghosts.update(pids)

    def ended(self) -> None:
        """The fault is over: the clock runs."""
        self.ended_at = time.monotonic()

    def measure_until(self, condition: Callable[[], object], *, deadline_s: float = 60) -> None:
        """Take the time from the fault's end until a condition holds for the result of the run."""
        moment = wait_until(condition, deadline_s=deadline_s)
        self.measured_s = float("inf") if moment is None else moment - self.ended_at

    def measure_back(self) -> None:
        self.measure_until(lambda: is_back(self.environment, self.ghosts))

    def require(self, holds: object, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    def require_no_failure(self, stage: Stage) -> None:
        """What went wrong is no fault of the batches, so no attempt counts against them."""
        for batch_id in self.batch_ids:
            record = self.environment.record(batch_id, stage)
            self.require(record.get("failures", 0) == 0, f"batch {batch_id} was blamed: {record}")


BOUND_S = 20.0

# Runs up to its `yield` until the fault is over, and after it when all is done, to look at what is particular to it.
Inject = Callable[[Run], Iterator[None]]


@dataclass(frozen=True)
class Fault:
    """What goes wrong, how often, and how soon after its end all must be back (seconds).

    Faults of one kind share a line of the scoreboard, and therefore their bound and what they measure.
    """

    kind: str
    detail: str
    inject: Inject
    runs: int
    bound_s: float = BOUND_S
    replicas: int = 1
    faked_clock: bool = False  # run under a clock that can be set
    served: bool = False  # with the model server
    short: bool = False  # also in `make test`, once
    measures: str = "back"
    spark: tuple[Stage, ...] = ()  # which stages work on Spark
    deadline_s: float = DEADLINE_S  # after which the run counts as lost
    unavailable: Callable[[Environment], str | None] = lambda _environment: None

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.detail}" if self.detail else self.kind


@dataclass(frozen=True)
class Result:
    """One faulted run: seconds from the fault's end until all were back, or what the fault measures, and until all was done."""

    kind: str
    detail: str
    recovery_s: float
    done_s: float
    lost: int
    doubled: int
    problems: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)


def execute(environment: Environment, fault: Fault) -> Result:
    """One run of a fault, from quiet to quiet."""
    run = Run(environment)
    course = fault.inject(run)
    next(course)
    if run.ended_at is None:
        run.ended()
    if run.measured_s is None and fault.measures == "back":
        run.measure_until(lambda: is_back(environment, run.ghosts), deadline_s=DEADLINE_S)
    done_at = wait_until(lambda: is_done(environment, run.batch_ids), deadline_s=fault.deadline_s)
    done_s = float("inf") if done_at is None else done_at - run.ended_at
    next(course, None)
    verdict = invariants.check(environment, run.batch_ids)
    return Result(
        fault.kind,
        fault.detail,
        done_s if run.measured_s is None else run.measured_s,
        done_s,
        verdict.lost,
        verdict.doubled,
        run.problems + verdict.problems,
        run.notes,
    )


def settle(environment: Environment, fault: Fault, *, deadline_s: float = DEADLINE_S) -> bool:
    """As many replicas as the fault wants, on its kind of clock, all listening and none at work; False if it does not come to that.

    The model server runs if the fault is about it.
    """
    environment.fake_clock(fault.faked_clock)
    environment.use_spark(*fault.spark)
    environment.fleet.scale(fault.replicas)
    environment.fleet.serve(wanted=fault.served)
    return (
        wait_until(
            lambda: (
                is_idle(environment)
                and len(listening(environment)) >= fault.replicas * len(Stage)
                and (not fault.served or environment.model_server.is_up())
            ),
            deadline_s=deadline_s,
        )
        is not None
    )
