"""Write docs/reliability-spark.md from a run of the fault suite for Spark."""

from datetime import UTC, datetime
from pathlib import Path

from environment import Environment
from report import commit, machine, row
from scoreboard import Scoreboard
from spark_environment import STALL_TIMEOUT_S, STORE_BYTES

PAGE = """# Reliability on Spark

With `ENGINE=spark`, a week still gets exactly one dataset and one model if a part of the cluster fails. This part of the fault suite tests
it:

```
make chaos-spark  # about an hour; writes this page
```

It starts a real cluster (one master, and two workers with one core each), and the listeners, PostgreSQL and MLflow of
[the fault suite](reliability.md). For each run it loads one week, catches an executor in the middle of a task of the week's dataset or
model, and injects one fault. Afterwards it looks in PostgreSQL, in MLflow and in `DATASET_STORE`: one finished run for each stage, a dataset with
the digest that the local engine computes from the same batch, and no files of dead attempts. A fault of the cluster never counts as a
failure of the batch.

**{total} faulted runs: {lost} lost, {doubled} doubled; {holding} of {kinds} kinds of fault hold.**

Measured on {day} at commit `{commit}`, on {machine}, while other programs ran, too. The seconds are from the end of the fault until the week had its
dataset and its model, so they contain what was left of the work on Spark. `STALL_TIMEOUT_S` is {stall} here, the disk of `DATASET_STORE` has
{store} MB, and Spark gives an executor up after 15 s of silence (`spark.network.timeout`; two minutes by default).

| fault | runs | lost | doubled | until | p50 | p99 | max | bound |
|---|--:|--:|--:|---|--:|--:|--:|--:|
{table}

Each fault is one function in `tests/spark/cluster_faults.py` or `store_faults.py`. [What happens in each case](how-to/spark.md#what-happens-if-something-fails)
explains them.
"""


def write(board: Scoreboard, environment: Environment, path: Path) -> None:
    """Write the page of a complete suite."""
    lines = [line for line in board.lines.values() if line.results]
    [server] = environment.query("show server_version")
    path.write_text(
        PAGE.format(
            total=len(board.results),
            lost=sum(line.lost for line in lines),
            doubled=sum(line.doubled for line in lines),
            holding=sum(line.holds is True for line in lines),
            kinds=len(lines),
            day=datetime.now(UTC).date(),
            commit=commit(),
            machine=machine(server["server_version"]),
            stall=STALL_TIMEOUT_S,
            store=STORE_BYTES // 2**20,
            table="\n".join(map(row, lines)),
        )
    )
