"""The result of every kind of fault on a line."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from invariants import Verdict
from rich.table import Table
from runs import BOUND_S, Fault, Result


@dataclass
class Line:
    """One kind of fault. `not_run` says why, where it cannot be had on this machine."""

    kind: str
    bound_s: float
    measures: str
    planned: int
    results: list[Result] = field(default_factory=list)
    not_run: str | None = None

    @property
    def lost(self) -> int:
        return sum(result.lost for result in self.results)

    @property
    def doubled(self) -> int:
        return sum(result.doubled for result in self.results)

    @property
    def problems(self) -> list[str]:
        return [
            f"{self.kind}, {result.detail}: {problem}"
            for result in self.results
            for problem in result.problems
        ]

    @property
    def holds(self) -> bool | None:
        """None as long as there is nothing to judge."""
        if not self.results:
            return None
        in_time = p99(result.recovery_s for result in self.results) <= self.bound_s
        return in_time and not (self.lost or self.doubled or self.problems)


class Scoreboard:
    """A line for each kind of fault, and the last look at all batches together."""

    def __init__(self, faults: list[Fault]):
        self.lines: dict[str, Line] = {}
        self.last_look: Verdict | None = None
        for fault in faults:
            line = self.lines.setdefault(fault.kind, Line(fault.kind, fault.bound_s, fault.measures, 0))
            line.planned += fault.runs

    def add(self, result: Result) -> None:
        self.lines[result.kind].results.append(result)

    @property
    def results(self) -> list[Result]:
        return [result for line in self.lines.values() for result in line.results]

    @property
    def holds(self) -> bool:
        return not self.missed and (self.last_look is None or self.last_look == Verdict())

    @property
    def missed(self) -> list[Line]:
        return [line for line in self.lines.values() if line.holds is False]

    def table(self, caption: str = "") -> Table:
        table = Table(
            title="fault suite: seconds from the end of the fault", caption=caption, title_justify="left"
        )
        table.add_column("fault", no_wrap=True)
        for name in ("runs", "lost", "doubled", "until", "p50", "p99", "bound", "done p50", "p99"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("holds", justify="center")
        for line in self.lines.values():
            table.add_row(*_cells(line))
        return table

    def total(self) -> str:
        results = self.results
        lost, doubled = (sum(getattr(result, name) for result in results) for name in ("lost", "doubled"))
        kept = sum(line.holds is True for line in self.lines.values())
        judged = sum(line.holds is not None for line in self.lines.values())
        return f"{len(results)} faulted runs, {lost} lost, {doubled} doubled; {kept} of {judged} kinds of fault hold"

    def recovery(self) -> str:
        """Over all kinds whose bound is the common one."""
        times = [
            result.recovery_s
            for line in self.lines.values()
            if line.bound_s == BOUND_S
            for result in line.results
        ]
        if not times:
            return "nothing to recover from"
        return f"recovery of {len(times)} runs: p50 {statistics.median(times):.2f} s, p99 {p99(times):.2f} s"


def p99(values: Iterable[float]) -> float:
    """By nearest rank: of up to 100 values the largest."""
    ordered = sorted(values)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def _cells(line: Line) -> list[str]:
    if line.not_run:
        return [line.kind, f"[yellow]not run: {line.not_run}"]
    runs = f"{len(line.results)}/{line.planned}"
    if not line.results:
        return [line.kind, runs]
    recovery = [result.recovery_s for result in line.results]
    done = [result.done_s for result in line.results]
    return [
        line.kind,
        runs,
        _count(line.lost),
        _count(line.doubled),
        line.measures,
        f"{statistics.median(recovery):.2f}",
        f"{p99(recovery):.2f}",
        f"{line.bound_s:g}",
        f"{statistics.median(done):.1f}",
        f"{p99(done):.1f}",
        "[green]yes" if line.holds else "[bold red]NO",
    ]


def _count(number: int) -> str:
    return str(number) if not number else f"[bold red]{number}"
