"""Write docs/reliability.md and its picture from a run of the fault suite."""

import math
import os
import platform
import statistics
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from environment import Environment
from matplotlib.figure import Figure
from runs import BOUND_S
from scoreboard import Line, Scoreboard, p99

ROOT = Path(__file__).parents[2]

PAGE = """# Reliability

Each loaded week gets exactly one finished, recorded run of each stage, and so one dataset and one model, also when a part of the system
fails or is killed: work may run twice, its result counts once. The fault suite tests this:

```
make chaos        # almost two hours; writes this page
```

It starts a real PostgreSQL, a real MLflow server, real listeners and the model server. For each run it loads one week (or a few), injects one fault,
often at an exact step of the work, and then looks in PostgreSQL, in MLflow and on disk. At the end of the suite, it looks at all
weeks once more.

**{total} faulted runs: {lost} lost, {doubled} doubled.** After the end of a fault, work went on again after {p50} s (median of the
{recovered} runs whose bound is {bound:g} s), after {p99} s in 99 of 100 runs, and after {longest} s at most.

![Seconds until the pipeline worked again after each kind of fault](images/reliability.png)

Measured on {day} at commit `{commit}`, on {machine}. Other machines have other times; lost and doubled must be 0 everywhere.

- **lost**: a week without a finished dataset or model. A week that was given up counts as lost.
- **doubled**: a second finished run or a second registered model version of one week.
- **until**: what is timed, in seconds from the end of the fault. *Back*: each stage listens again and works on what waits. *Done*:
  every week of the run has its model, so this contains the work itself, several seconds here. *Takeover*: another replica works on
  the week of the killed one. *Delay*: how much longer a real notification takes under the flood than without it. *Served*: the model
  server says that it serves the champion that PostgreSQL names.
- **p99** is by nearest rank, so with fewer than 100 runs it is the longest.

| fault | runs | lost | doubled | until | p50 | p99 | max | bound |
|---|--:|--:|--:|---|--:|--:|--:|--:|
{table}
{not_run}
Each fault is one function in `tests/chaos/faults/`. The checks after each run are in `tests/chaos/invariants.py`: one finished
dataset run and one finished training run for each week, one registered version, PostgreSQL records the same runs, no run is left
open, and the dataset has the bytes of an undisturbed build. While the model server is broken and the champion moves, a client asks
for predictions without a pause (`tests/chaos/prediction_client.py`): only a server that was killed or frozen may leave a request without an
answer, each version predicts the same classes every time, and the old version predicts nothing after the new one has begun.
"""


def write(board: Scoreboard, environment: Environment, path: Path) -> None:
    """Write the page of a complete suite, and its picture into the folder images beside it."""
    recovery = [
        result.recovery_s
        for line in board.lines.values()
        if line.bound_s == BOUND_S and line.measures == "back"
        for result in line.results
    ]
    lines = [line for line in board.lines.values() if line.results]
    missing = [f"{line.kind} ({line.not_run})" for line in board.lines.values() if line.not_run]
    [server] = environment.query("show server_version")
    path.write_text(
        PAGE.format(
            total=len(board.results),
            lost=sum(line.lost for line in lines),
            doubled=sum(line.doubled for line in lines),
            recovered=len(recovery),
            bound=BOUND_S,
            p50=_seconds(statistics.median(recovery)),
            p99=_seconds(p99(recovery)),
            longest=_seconds(max(recovery)),
            day=datetime.now(UTC).date(),
            commit=commit(),
            machine=machine(server["server_version"]),
            table="\n".join(map(row, lines)),
            not_run=f"\nNot run here: {'; '.join(missing)}.\n" if missing else "",
        )
    )
    picture = path.parent / "images" / "reliability.png"
    picture.parent.mkdir(exist_ok=True)
    _draw(
        lines,
        f"{len(board.results)} faulted runs: {sum(line.lost for line in lines)} lost, "
        f"{sum(line.doubled for line in lines)} doubled",
    ).savefig(picture, dpi=120)


def _draw(lines: list[Line], title: str) -> Figure:
    """Draw the median and the longest time of each kind of fault, quickest first."""
    lines = sorted(lines, key=lambda line: statistics.median(result.recovery_s for result in line.results))
    figure = Figure(figsize=(9, 0.2 * len(lines) + 1.2), layout="constrained")
    axes = figure.subplots()
    for row, line in enumerate(lines):
        times = [max(result.recovery_s, 0.01) for result in line.results]
        axes.plot([statistics.median(times), max(times)], [row, row], color="tab:blue", linewidth=1)
        axes.plot(statistics.median(times), row, "o", color="tab:blue", markersize=4)
        axes.plot(max(times), row, "|", color="tab:blue", markersize=8)
    axes.set_yticks(range(len(lines)), [f"{line.kind} ({len(line.results)})" for line in lines], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds from the end of the fault: median (dot) and longest (bar); in brackets: runs")
    axes.set_title(title)
    axes.grid(axis="x", linewidth=0.4)
    return figure


def row(line: Line) -> str:
    times = [result.recovery_s for result in line.results]
    cells = [
        line.kind,
        len(times),
        line.lost,
        line.doubled,
        line.measures,
        _seconds(statistics.median(times)),
        _seconds(p99(times)),
        _seconds(max(times)),
        f"{line.bound_s:g}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f}"


def commit() -> str:
    git = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()


def machine(server: str) -> str:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {gigabytes:.0f} GB of memory, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, PostgreSQL {server.split(maxsplit=1)[0]}"
    )
