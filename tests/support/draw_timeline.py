"""Draw how long each step took from the rows of a week to an answer by the model that was trained on them."""

import json
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psycopg
from matplotlib.figure import Figure

MOMENTS = """
    select started_at, completed_at, snapshot.woken_at, snapshot.finished_at, training.woken_at, training.finished_at
    from data_loads
    join stage_ledger as snapshot on snapshot.batch_id = data_loads.id and snapshot.stage = 'snapshot'
    join stage_ledger as training on training.batch_id = data_loads.id and training.stage = 'training'
    where data_loads.batch_name = %s
"""
STEPS = (
    "load the rows, audit and seal them",
    "NOTIFY wakes the snapshot listener",
    "build the balanced dataset, log it",
    "NOTIFY wakes the training listener",
    "train, evaluate, promote the model",
    "check the new model, load it, exchange it",
)
COLOURS = ("#1f6f8b", "#c8553d")


class Step(NamedTuple):
    name: str
    begin_s: float
    seconds: float


def steps_of(connection: psycopg.Connection, log: Path, batch: str) -> list[Step]:
    """Return the steps of a batch, by PostgreSQL's clock and, for the last one, by the server's log."""
    [moments] = connection.execute(MOMENTS, [batch]).fetchall()
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    served = next(line for line in lines if line["event"] == "serving" and line["batch"] == batch)
    ends = [moment.timestamp() for moment in moments]
    ends.append(datetime.fromisoformat(served["timestamp"]).timestamp())
    return [
        Step(name, begin - ends[0], end - begin)
        for name, begin, end in zip(STEPS, ends, ends[1:], strict=False)
    ]


def draw(steps: list[Step], path: Path) -> None:
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    total = steps[-1].begin_s + steps[-1].seconds
    for row, step in enumerate(steps):
        axes.barh(
            row, max(step.seconds, total / 500), left=step.begin_s, color=COLOURS["NOTIFY" in step.name]
        )
        label = f"{step.seconds * 1000:.0f} ms" if step.seconds < 1 else f"{step.seconds:.1f} s"
        axes.text(step.begin_s + step.seconds + total / 100, row, label, va="center", fontsize=9)
    axes.set_yticks(range(len(steps)), [step.name for step in steps])
    axes.invert_yaxis()
    axes.set(xlabel="seconds since the load began", xlim=(0, total * 1.08))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
