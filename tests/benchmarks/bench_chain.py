"""Both stages as a listener runs them: what the whole of each takes on the last week, and what of it is the chain's own.

Each batch has a child of the fork server to itself, which waits for it, as in `listeners/worker.py`: what a process does on its
first use of a library counts. The chain's own is everything but reading, balancing, writing, fitting, evaluating: runs and files
in MLflow, figures, fencing, registration, promotion. It hardly depends on the rows, and is measured where the work is next to
nothing: the whole, less the work done once more by itself in another such child.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import chain_handler
import chain_work_handler
import psycopg
from bench_ground import FEW_ROWS, LAST_WEEK, Ground, Weeks, loaded_weeks, prepared_ground
from bench_measure import Report, Task, in_child
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from db.connect import connect
from db.database import Role
from listeners import job
from listeners.child import warm_up
from listeners.children import Children
from shared.events import Stage

STAGE = "chain"

_PEAK_MB = {Stage.SNAPSHOT: 1024, Stage.TRAINING: 2048}
_OVERHEAD_S = 3.0
_WEEKS = range(1, 8)  # the first of them makes the tables of MLflow and the fixed sets, and is not counted

_Seconds = tuple[float, float]  # of the whole, of the work in it


def run(ground: Ground, weeks: Weeks) -> Report:
    report = Report()
    for stage in Stage:
        [(whole_s, _work_s)], peak_mb = _run_stage(weeks, stage, [LAST_WEEK])
        name = f"{stage} child at {ground.training_set.total_rows:,} rows"
        report.add(STAGE, f"{name}: peak memory", peak_mb, "MB", at_most=_PEAK_MB[stage])
        report.add(STAGE, f"{name}: wall time", whole_s, "s")
    with prepared_ground(FEW_ROWS) as few, loaded_weeks(few) as few_weeks:
        for stage in Stage:
            (_first, *counted), _peak_mb = _run_stage(few_weeks, stage, _WEEKS)
            overheads = tuple(whole_s - work_s for whole_s, work_s in counted)
            what = f"{stage}: all that is not its work"
            report.add(STAGE, what, overheads, "s", at_most=_OVERHEAD_S)
    return report


def _run_stage(weeks: Weeks, stage: Stage, numbers: Iterable[int]) -> tuple[list[_Seconds], float]:
    """The seconds of each week, and the peak memory of all its children, in MiB."""
    conninfo = weeks.after(LAST_WEEK).conninfo(Role(f"rakuten_{stage}"))
    settings = weeks.ground.settings.model_copy(update={"log_level": "WARNING"})
    task = job.Task(stage, conninfo, settings, job.handler_module(stage))
    # in a process of its own, so that each stage has a fork server of its own
    seconds, peaks = in_child(prepare_stage, task, list(numbers)).result
    return seconds, max(peaks)


def prepare_stage(task: job.Task, weeks: list[int]) -> Task:
    """In a child: the stage of several batches, one after the other, each recorded before the next."""
    asyncio.run(warm_up(task.handler))
    return Task(lambda: asyncio.run(_in_waiting_children(task, weeks)), tuple)


async def _in_waiting_children(task: job.Task, weeks: list[int]) -> tuple[list[_Seconds], list[float]]:
    seconds, peaks = [], []
    with connect(task.conninfo, "benchmark stage", autocommit=True) as connection:
        async with Children(task) as children:
            for week in weeks:
                batch = _claimed(connection, task.stage, week)
                whole = await _at_work(children, chain_handler.__name__, batch)
                work = await _at_work(children, chain_work_handler.__name__, batch)
                seconds.append((whole["wall_s"], work["wall_s"]))
                peaks.append(whole["peak_mb"])
                result = Jsonb(whole["result"])
                connection.execute(
                    "select finish_stage(%s, %s, %s, %s)", [week, task.stage, batch.attempt, result]
                )
    return seconds, peaks


def _claimed(connection: psycopg.Connection[TupleRow], stage: Stage, week: int) -> job.Batch:
    claim = connection.execute(
        "select claim_stage(%s, %s, 'benchmark', 'poll', '0 s')", [week, stage]
    ).fetchone()
    assert claim is not None
    return job.Batch(week, f"week_{week}", claim[0])


async def _at_work(children: Children, handler: str, batch: job.Batch) -> dict[str, Any]:
    async with children.assigned_child(handler, batch) as child:
        return await child.result()
