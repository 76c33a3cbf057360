"""Both stages as a listener runs them: what the whole of each takes on the last week, and what of it is the chain's own.

The chain's own is everything but reading, balancing, writing, fitting, evaluating: runs and files in MLflow, figures, fencing,
registration, promotion. It hardly depends on the rows, and is measured where the work is next to nothing.
"""

import gc
import importlib
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench_ground import FEW_ROWS, LAST_WEEK, Ground, Weeks, loaded_weeks, prepared_ground
from bench_measure import ChildRun, Report, Task, in_child
from psycopg.types.json import Jsonb

from db.connect import connect
from db.database import Role
from listeners.child import IMPORTED_LATE
from listeners.job import Handler, Job, handler_module
from shared.events import Stage
from shared.logs import configure_logs

STAGE = "chain"

_PEAK_MB = {Stage.SNAPSHOT: 1024, Stage.TRAINING: 2048}
_OVERHEAD_S = 0.3
_WEEKS = range(1, 8)  # the first of them warms everything up, and is not counted


def run(ground: Ground, weeks: Weeks) -> Report:
    report = Report()
    for stage in Stage:
        [child] = _run_stage(weeks, stage, [LAST_WEEK], prepare_stage)
        report.samples[f"chain {stage}"] = {"ours": [child.sample]}
        name = f"{stage} child at {ground.training_set.total_rows:,} rows"
        report.add(STAGE, f"{name}: peak memory", child.peak_mb, "MB", at_most=_PEAK_MB[stage])
        report.add(STAGE, f"{name}: wall time", child.sample.wall_s, "s")
    with prepared_ground(FEW_ROWS) as few, loaded_weeks(few) as few_weeks:
        for stage in Stage:
            [child] = _run_stage(few_weeks, stage, list(_WEEKS), prepare_overhead)
            _, *counted = child.result[1]
            what = f"{stage}: all that is not its work"
            report.add(STAGE, what, tuple(counted), "s", at_most=_OVERHEAD_S)
    return report


def _run_stage(weeks: Weeks, stage: Stage, numbers: list[int], prepare) -> list[ChildRun]:
    """Claim, work in a child, record: what `listeners/stage.py` does around a handler."""
    conninfo = weeks.after(LAST_WEEK).conninfo(Role(f"rakuten_{stage}"))
    with connect(conninfo, "benchmark stage", autocommit=True) as connection:
        jobs = []
        for week in numbers:
            claim = connection.execute(
                "select claim_stage(%s, %s, 'benchmark', 'poll', '0 s')", [week, stage]
            ).fetchone()
            assert claim is not None
            place = (week, f"week_{week}", claim[0])
            jobs.append(Job(stage, conninfo, weeks.ground.settings, handler_module(stage), *place))
        child = in_child(prepare, jobs)
        for job, result in zip(jobs, child.result[0], strict=True):
            connection.execute(
                "select finish_stage(%s, %s, %s, %s)", [job.batch_id, stage, job.attempt, Jsonb(result)]
            )
    return [child]


def _prepared_handler(job: Job) -> Handler:
    """The handler of a stage, its libraries imported and left alone by the garbage collector, as in a child of the fork server."""
    for module in IMPORTED_LATE:
        importlib.import_module(module)
    handle: Handler = importlib.import_module(job.handler).handle
    configure_logs("console", "WARNING")  # after MLflow has set up its own
    gc.freeze()
    return handle


def prepare_stage(jobs: list[Job]) -> Task:
    """In a child: the stage of one batch."""
    handle = _prepared_handler(jobs[0])
    return Task(lambda: ([handle(job) for job in jobs], []), tuple)


def prepare_overhead(jobs: list[Job]) -> Task:
    """In a child: the stage of several batches, and for each what it took beyond its work done once more by itself."""
    handle = _prepared_handler(jobs[0])
    work = {Stage.SNAPSHOT: _snapshot_work, Stage.TRAINING: _training_work}[jobs[0].stage]

    def measure() -> tuple[list[dict], list[float]]:
        results, overheads = [], []
        for job in jobs:
            whole, result = _timed(partial(handle, job))
            results.append(result)
            overheads.append(whole - _timed(partial(work, job))[0])
        return results, overheads

    return Task(measure, tuple)


def _timed(action):
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def _snapshot_work(job: Job) -> None:
    from listeners.snapshot.earlier import find_earlier_dataset  # noqa: PLC0415
    from listeners.snapshot.handle import build  # noqa: PLC0415
    from listeners.snapshot.parquet import PRODUCTS_PER_ROW_GROUP  # noqa: PLC0415

    with (
        TemporaryDirectory() as scratch,
        connect(job.conninfo, "benchmark work", autocommit=True) as connection,
    ):
        copies = job.settings.state_path / "training_snapshots"
        earlier = find_earlier_dataset(connection, job.batch_id, copies, PRODUCTS_PER_ROW_GROUP)
        build(connection, job.batch_id, job.settings.random_seed, Path(scratch) / "work.parquet", earlier)


def _training_work(job: Job) -> None:
    from listeners.training import model  # noqa: PLC0415
    from listeners.training.dataset import read_frame, read_training_data  # noqa: PLC0415
    from listeners.training.evaluate import evaluate, report  # noqa: PLC0415

    seed = job.settings.random_seed
    datasets = job.settings.state_path / "mlflow" / "artifacts"
    data = read_training_data(next(datasets.rglob(f"train_{job.batch_name}.parquet")))
    classifier = model.fit(data.products, data.labels, data.multiplicities, seed=seed)
    holdout = read_frame(next(datasets.rglob("holdout_df.parquet")))
    truth, prediction = holdout["prdtypecode"].to_numpy(), classifier.predict(holdout)
    evaluate(truth, prediction, seed=seed)
    report(truth, prediction)
    classifier.predict(read_frame(next(datasets.rglob("test_df.parquet"))))
