"""The snapshot as a whole: from PostgreSQL to the verified file, on last week's dataset and without one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import sqlalchemy
from bench_ground import (
    FEW_ROWS,
    LAST_WEEK,
    SECOND_LAST_WEEK,
    Ground,
    Weeks,
    loaded_weeks,
    prepared_ground,
)
from bench_measure import Report, Sample, Task, alternate, backend_pid, in_child, in_usual_child, timed
from bench_snapshot import SEED, STAGE, add_memory, build_usual, read_sql
from psycopg.types.json import Jsonb

from db.connect import ArrowConnection, connect, connect_arrow
from db.database import Role
from db.schema import engine
from listeners.snapshot.drift import find_groups
from listeners.snapshot.earlier import find_earlier_dataset
from listeners.snapshot.local import build
from listeners.snapshot.rows import RowsCounter
from shared.hashing import sha256_of
from shared.mlflow_names import dataset_name, parquet_name

ROUNDS = 5


@dataclass(frozen=True)
class Recorded:
    """A database of all weeks in which the dataset of the second last is on record, and where that is."""

    conninfo: str
    datasets: Path


@contextmanager
def recorded_dataset(weeks: Weeks) -> Iterator[Recorded]:
    """What a listener leaves behind after the second last week, without MLflow."""
    datasets = weeks.ground.directory / "datasets"
    datasets.mkdir()
    path = datasets / parquet_name(dataset_name(f"week_{SECOND_LAST_WEEK}"))
    with weeks.copy_of(weeks.after(LAST_WEEK).settings.postgres_db) as database:
        conninfo = database.conninfo(Role.SNAPSHOT)
        with (
            connect(conninfo, "benchmark dataset", autocommit=True) as connection,
            connect_arrow(conninfo, "benchmark dataset") as reader,
        ):
            held_out = build(reader, SECOND_LAST_WEEK, SEED, path)["held_out_products"]
            result = {"run_id": "none", "dataset_sha256": sha256_of(path), "held_out_products": held_out}
            [attempt] = connection.execute(
                "select claim_stage(%s, 'snapshot', 'benchmark', 'poll', '0 s')", [SECOND_LAST_WEEK]
            ).fetchone()
            connection.execute(
                "select finish_stage(%s, 'snapshot', %s, %s)", [SECOND_LAST_WEEK, attempt, Jsonb(result)]
            )
        yield Recorded(conninfo, datasets)


def run(ground: Ground, weeks: Weeks) -> Report:
    """Each in a child, where only its own memory is; ours is verified too."""
    report = Report()
    with (
        prepared_ground(FEW_ROWS) as few,
        loaded_weeks(few) as few_weeks,
        recorded_dataset(few_weeks) as first,
        recorded_dataset(weeks) as recorded,
    ):
        variants = {
            "a week": partial(in_child, prepare_week, first, recorded, ground.directory / "week.parquet"),
            "all": partial(in_child, prepare_all, first, recorded, ground.directory / "all.parquet"),
            "a week, drift": partial(
                in_child, prepare_week, first, recorded, ground.directory / "week.parquet", True
            ),
            "all, drift": partial(
                in_child, prepare_all, first, recorded, ground.directory / "all.parquet", True
            ),
            "usual": partial(
                in_usual_child, prepare_usual, first, recorded, ground.directory / "usual.parquet"
            ),
        }
        runs = alternate(variants, ROUNDS, warm_up=False)
    samples = report.samples["snapshot whole"] = {
        name: [run.result for run in several] for name, several in runs.items()
    }
    usual = "read_sql + fit_resample + to_parquet"
    report.compare(STAGE, f"whole: {usual} / ours, a week's", samples, "usual", "a week", at_least=5)
    report.compare(STAGE, f"whole: {usual} / ours, all read", samples, "usual", "all")
    report.compare(
        STAGE,
        "whole: with drift and card / without, a week's",
        samples,
        "a week, drift",
        "a week",
        at_most=1.15,
    )
    report.compare(STAGE, "whole: with drift and card / without, all read", samples, "all, drift", "all")
    add_memory(report, "whole, a week's", runs["a week"], runs["usual"], at_least=20)
    add_memory(report, "whole, all read", runs["all"], runs["usual"])
    return report


def prepare_week(few: Recorded, recorded: Recorded, path: Path, drift: bool = False) -> Task:
    """In a child: a week whose predecessor's dataset is there."""
    return _prepare(few, recorded, path, recorded.datasets, drift)


def prepare_all(few: Recorded, recorded: Recorded, path: Path, drift: bool = False) -> Task:
    """In a child: a first week, one after a correction, or a dataset that is reproduced."""
    return _prepare(few, recorded, path, None, drift)


def _prepare(few: Recorded, recorded: Recorded, path: Path, datasets: Path | None, drift: bool) -> Task:
    """Libraries load some of their code on first use: both ways are gone once with few rows before memory is measured."""
    for some in (few.datasets, None):
        with connect_arrow(few.conninfo, "benchmark whole") as reader:
            _build(few.conninfo, reader, path, some, drift)

    def work() -> Sample:
        with connect_arrow(recorded.conninfo, "benchmark whole") as reader:
            build_it = partial(_build, recorded.conninfo, reader, path, datasets, drift)
            return timed(build_it, backend_pid(reader))

    return Task(work, lambda sample: sample)


def _build(conninfo: str, reader: ArrowConnection, path: Path, datasets: Path | None, drift: bool) -> None:
    earlier, sample, collect = None, None, None
    with connect(conninfo, "benchmark whole", autocommit=True) as connection:
        if datasets is not None:
            earlier = find_earlier_dataset(connection, LAST_WEEK, datasets)
            assert earlier is not None
        if drift:
            sample, summary = find_groups(connection, LAST_WEEK), RowsCounter()

            def collect(rows: pa.Table) -> None:
                sample.collect(rows)
                summary.collect(rows)

    build(reader, LAST_WEEK, SEED, path, earlier, collect=collect)
    if sample:
        sample.document(seed=SEED)
        summary.summary()


def prepare_usual(few: Recorded, recorded: Recorded, path: Path) -> Task:
    """In a child: the batch as one frame."""

    def work(conninfo: str) -> Sample:
        with engine(conninfo, "benchmark whole").connect() as connection:
            backend_pid = connection.scalar(sqlalchemy.text("select pg_backend_pid()"))
            return timed(lambda: build_usual(read_sql(connection), path), backend_pid)

    work(few.conninfo)
    return Task(partial(work, recorded.conninfo), lambda sample: sample)
