"""The snapshot: reading a batch, and building the balanced file from rows in memory."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import sqlalchemy
from bench_ground import LAST_WEEK, Ground, Weeks
from bench_measure import MEBIBYTE, ChildRun, Report, Sample, Task, alternate, in_child, timed
from imblearn.over_sampling import RandomOverSampler

from db.connect import connect, engine
from db.database import Role
from db.sql import query
from listeners.snapshot import parquet
from listeners.snapshot.balance import multiplicities
from listeners.snapshot.handle import build
from listeners.snapshot.read import stream_rows

STAGE = "snapshot"
ROUNDS = 5
SEED = 42
_FEW_ROWS = 100  # built once before memory is measured: libraries load some of their code on first use

# What the distinct rows are written with: what Arrow does unless told otherwise, and what is smallest and fastest for them.
_DISTINCT_ROW_GROUP = 16_384
_DISTINCT: dict[str, bool] = {}
_LEANEST = {"use_dictionary": False}

_AS_OF = query("copy_batch").partition("copy (")[2].rpartition(") to stdout")[0]
_CURRENT = _AS_OF.replace("products_as_of_batch(%(batch_id)s)", "products left join labels using (productid)")
_USUAL = _AS_OF.replace(", split = 'holdout' as held_out", "").replace(
    "split = 'holdout' or", "split = 'train' and"
)


def run(ground: Ground, weeks: Weeks) -> Report:
    report = Report()
    _read(report, weeks)
    _build(report, ground)
    _whole(report, ground, weeks)
    return report


# ---- reading


def _read(report: Report, weeks: Weeks) -> None:
    conninfo = weeks.after(LAST_WEEK).conninfo(Role.SNAPSHOT)
    variants = {
        "stream_rows": partial(_time_read, conninfo, _stream),
        "COPY discarded": partial(_time_read, conninfo, partial(_discard, _AS_OF, "binary")),
        "COPY as CSV discarded": partial(_time_read, conninfo, partial(_discard, _AS_OF, "csv")),
        "COPY discarded, current table": partial(_time_read, conninfo, partial(_discard, _CURRENT, "binary")),
        "read_sql": partial(_time_read_sql, conninfo),
    }
    samples = report.samples["snapshot read"] = alternate(variants, ROUNDS)
    report.compare(
        STAGE,
        "read: stream_rows / COPY discarded",
        samples,
        "stream_rows",
        "COPY discarded",
        at_most=1.25,
    )
    report.compare(STAGE, "read: read_sql / stream_rows", samples, "read_sql", "stream_rows")
    report.compare(
        STAGE, "read: stream_rows / COPY as CSV discarded", samples, "stream_rows", "COPY as CSV discarded"
    )
    report.compare(
        STAGE,
        "read: as of the batch / current table",
        samples,
        "COPY discarded",
        "COPY discarded, current table",
    )
    for name, prepare in (("stream_rows", prepare_stream), ("read_sql", prepare_read_sql)):
        report.add(STAGE, f"read: extra memory of {name}", in_child(prepare, conninfo).extra_mb, "MB")


def _time_read(conninfo: str, read: Callable[..., None]) -> Sample:
    with connect(conninfo, "benchmark read", autocommit=True) as connection:
        return timed(partial(read, connection), connection.info.backend_pid)


def _stream(connection) -> None:
    for _table in stream_rows(connection, LAST_WEEK, parquet.PRODUCTS_PER_ROW_GROUP):
        pass


def _discard(select: str, layout: str, connection) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy ({select}) to stdout (format {layout})", {"batch_id": LAST_WEEK}) as copy,
    ):
        for _block in copy:
            pass


def _time_read_sql(conninfo: str) -> Sample:
    with engine(conninfo, "benchmark read").connect() as connection:
        backend_pid = connection.scalar(sqlalchemy.text("select pg_backend_pid()"))
        return timed(partial(_read_sql, connection), backend_pid)


def _read_sql(connection: sqlalchemy.Connection) -> pd.DataFrame:
    statement = sqlalchemy.text(_USUAL.replace("%(batch_id)s", ":batch_id"))
    return pd.read_sql(statement, connection, params={"batch_id": LAST_WEEK})


def prepare_stream(conninfo: str) -> Task:
    """In a child: one table at a time, as the parquet writer takes them."""

    def work() -> None:
        with connect(conninfo, "benchmark read", autocommit=True) as connection:
            _stream(connection)

    return Task(work)


def prepare_read_sql(conninfo: str) -> Task:
    """In a child: the whole frame at once."""

    def work() -> pd.DataFrame:
        with engine(conninfo, "benchmark read").connect() as connection:
            return _read_sql(connection)

    return Task(work)


# ---- building


def _build(report: Report, ground: Ground) -> None:
    rows_path = ground.directory / "rows.arrow"
    pyarrow.feather.write_feather(ground.training_rows(), rows_path, compression="uncompressed")
    paths = {name: ground.directory / f"{name}.parquet" for name in ("ours", "usual", "distinct", "leanest")}
    rows = pyarrow.feather.read_table(rows_path, memory_map=False)
    frame = rows.to_pandas()
    samples = report.samples["snapshot build"] = alternate(
        {
            "ours": lambda: timed(partial(_build_ours, rows, paths["ours"])),
            "distinct rows": lambda: timed(partial(_write_distinct, rows, paths["distinct"], _DISTINCT)),
            "leanest": lambda: timed(partial(_write_distinct, rows, paths["leanest"], _LEANEST)),
            "usual": lambda: timed(partial(_build_usual, frame, paths["usual"])),
        },
        ROUNDS,
    )
    size = {name: path.stat().st_size / MEBIBYTE for name, path in paths.items()}
    report.compare(STAGE, "build: fit_resample + to_parquet / ours", samples, "usual", "ours", at_least=5)
    report.compare(
        STAGE, "build: ours / writing the distinct rows", samples, "ours", "distinct rows", at_most=1.5
    )
    report.compare(STAGE, "build: ours / writing them without dictionaries", samples, "ours", "leanest")
    ours = in_child(prepare_build_ours, rows_path, paths["ours"])
    usual = in_child(prepare_build_usual, rows_path, paths["usual"])
    _add_memory(report, "build", ours, usual)
    report.add(
        STAGE,
        f"build: file of ours, {size['ours']:.1f} MB / of distinct rows",
        size["ours"] / size["distinct"],
        "x",
        at_most=1.05,
    )
    report.add(
        STAGE,
        "build: file of ours / of distinct rows without dictionaries",
        size["ours"] / size["leanest"],
        "x",
    )
    report.add(
        STAGE,
        f"build: file of the usual way, {size['usual']:.1f} MB / ours",
        size["usual"] / size["ours"],
        "x",
    )


def _multiplicities(rows: pa.Table) -> np.ndarray:
    return multiplicities(rows["productid"].to_numpy(), rows["prdtypecode"].to_numpy(), SEED)


def _chunks(rows: pa.Table) -> list[pa.Table]:
    step = parquet.PRODUCTS_PER_ROW_GROUP
    return [rows.slice(first, step) for first in range(0, rows.num_rows, step)]


def _build_ours(rows: pa.Table, path: Path) -> None:
    parquet.write_balanced(path, _chunks(rows), _multiplicities(rows))


def _write_distinct(rows: pa.Table, path: Path, options: dict[str, bool]) -> None:
    """The physical limit: each row once with its number of copies."""
    counted = rows.append_column("multiplicity", pa.array(_multiplicities(rows)))
    with pq.ParquetWriter(path, counted.schema, compression="zstd", compression_level=1, **options) as writer:
        for first in range(0, rows.num_rows, _DISTINCT_ROW_GROUP):
            writer.write_table(counted.slice(first, _DISTINCT_ROW_GROUP))


def _build_usual(frame: pd.DataFrame, path: Path) -> None:
    features, labels = frame.drop(columns="prdtypecode"), frame["prdtypecode"]
    balanced, balanced_labels = RandomOverSampler(random_state=SEED).fit_resample(features, labels)
    balanced.assign(prdtypecode=balanced_labels).to_parquet(path, index=False)


def prepare_build_ours(rows_path: Path, path: Path) -> Task:
    """In a child: from Arrow rows in memory to the file."""
    rows = pyarrow.feather.read_table(rows_path, memory_map=False)
    _build_ours(rows.slice(0, _FEW_ROWS), path)
    return Task(partial(_build_ours, rows, path))


def prepare_build_usual(rows_path: Path, path: Path) -> Task:
    """In a child: from a frame in memory to the file."""
    frame = pyarrow.feather.read_table(rows_path, memory_map=False).to_pandas()
    _build_usual(frame.head(_FEW_ROWS), path)
    return Task(partial(_build_usual, frame, path))


# ---- the whole stage


def _whole(report: Report, ground: Ground, weeks: Weeks) -> None:
    """From PostgreSQL to the file; ours is verified too. Each in a child, where only its own memory and libraries are."""
    conninfo = weeks.after(LAST_WEEK).conninfo(Role.SNAPSHOT)
    ways = {"ours": prepare_whole_ours, "usual": prepare_whole_usual}
    runs: dict[str, list[ChildRun]] = {name: [] for name in ways}

    def run(name: str) -> Sample:
        runs[name].append(in_child(ways[name], conninfo, ground.directory / f"whole_{name}.parquet"))
        return runs[name][-1].result

    variants = {name: partial(run, name) for name in ways}
    samples = report.samples["snapshot whole"] = alternate(variants, ROUNDS, warm_up=False)
    report.compare(
        STAGE, "whole: read_sql + fit_resample + to_parquet / ours", samples, "usual", "ours", at_least=5
    )
    _add_memory(report, "whole", runs["ours"][-1], runs["usual"][-1])


def _add_memory(report: Report, part: str, ours: ChildRun, usual: ChildRun) -> None:
    report.add(STAGE, f"{part}: extra memory of ours", ours.extra_mb, "MB")
    report.add(STAGE, f"{part}: extra memory of the usual way", usual.extra_mb, "MB")
    ratio = usual.extra_mb / max(ours.extra_mb, 1)
    report.add(STAGE, f"{part}: extra memory of the usual way / ours", ratio, "x", at_least=20)


def prepare_whole_ours(conninfo: str, path: Path) -> Task:
    """In a child: the stage's own steps. Nothing is warmed up: the smallest batch is 40 % of the data, and its memory would not count."""

    def work() -> Sample:
        with connect(conninfo, "benchmark whole", autocommit=True) as connection:
            return timed(partial(build, connection, LAST_WEEK, SEED, path), connection.info.backend_pid)

    return Task(work, lambda sample: sample)


def prepare_whole_usual(conninfo: str, path: Path) -> Task:
    """In a child: the batch as one frame."""

    def work() -> Sample:
        with engine(conninfo, "benchmark whole").connect() as connection:
            backend_pid = connection.scalar(sqlalchemy.text("select pg_backend_pid()"))
            return timed(lambda: _build_usual(_read_sql(connection), path), backend_pid)

    return Task(work, lambda sample: sample)
