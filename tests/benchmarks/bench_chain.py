"""Both stages as a listener runs them, on the last week: what the whole of each takes, MLflow and all."""

import importlib
from functools import partial

from bench_ground import LAST_WEEK, Ground, Weeks
from bench_measure import ChildRun, Report, Task, in_child
from psycopg.types.json import Jsonb

from db.connect import connect
from db.database import Role
from listeners.job import Handler, Job, handler_module
from shared.events import Stage
from shared.logs import configure_logs

STAGE = "chain"

_PEAK_MB = {Stage.SNAPSHOT: 1024, Stage.TRAINING: 2048}


def run(ground: Ground, weeks: Weeks) -> Report:
    report = Report()
    for stage in (Stage.SNAPSHOT, Stage.TRAINING):
        child = _run_stage(weeks, stage)
        report.samples[f"chain {stage}"] = {"ours": [child.sample]}
        name = f"{stage} child at {ground.training_set.total_rows:,} rows"
        report.add(STAGE, f"{name}: peak memory", child.peak_mb, "MB", at_most=_PEAK_MB[stage])
        report.add(STAGE, f"{name}: wall time", child.sample.wall_s, "s")
    return report


def _run_stage(weeks: Weeks, stage: Stage) -> ChildRun:
    """Claim, work in a child, record: what `listeners/stage.py` does around a handler."""
    conninfo = weeks.after(LAST_WEEK).conninfo(Role(f"rakuten_{stage}"))
    with connect(conninfo, "benchmark stage", autocommit=True) as connection:
        claim = connection.execute(
            "select claim_stage(%s, %s, 'benchmark', 'poll', '0 s')", [LAST_WEEK, stage]
        ).fetchone()
        assert claim is not None
        job = Job(
            stage,
            conninfo,
            weeks.ground.settings,
            handler_module(stage),
            LAST_WEEK,
            f"week_{LAST_WEEK}",
            claim[0],
        )
        child = in_child(prepare_stage, job)
        connection.execute(
            "select finish_stage(%s, %s, %s, %s)", [LAST_WEEK, stage, claim[0], Jsonb(child.result)]
        )
    return child


def prepare_stage(job: Job) -> Task:
    """In a child: the handler of a stage, its libraries imported."""
    handle: Handler = importlib.import_module(job.handler).handle
    configure_logs("console", "WARNING")  # after MLflow has set up its own
    return Task(partial(handle, job), dict)
