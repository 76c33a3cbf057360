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
from bench_ground import (
    LAST_WEEK,
    Ground,
    Weeks,
)
from bench_measure import (
    MEBIBYTE,
    ChildRun,
    Report,
    Sample,
    Task,
    alternate,
    backend_pid,
    in_child,
    in_usual_child,
    timed,
)
from imblearn.over_sampling import RandomOverSampler

from db.connect import ArrowConnection, connect, connect_arrow
from db.database import Role
from db.schema import engine
from db.sql import query
from listeners.snapshot import parquet
from listeners.snapshot.balance import multiplicities
from listeners.snapshot.read import stream_rows

STAGE = "snapshot"
ROUNDS = 5
SEED = 42
_FEW_ROWS = 100  # built once before memory is measured: libraries load some of their code on first use

# What the distinct rows are written with: what Arrow does unless told otherwise, and what is smallest and fastest for them.
_DISTINCT_ROW_GROUP = 16_384
_DISTINCT: dict[str, bool] = {}
_LEANEST = {"use_dictionary": False}

_BATCH = "products_as_of_batch(current_setting('rakuten_read.batch_id')::bigint)"
_AS_OF = query("snapshot/batch_rows").replace(_BATCH, "products_as_of_batch(%(batch_id)s)")
_CURRENT = query("snapshot/batch_rows").replace(_BATCH, "products left join labels using (productid)")
_USUAL = """
    select productid, designation, description, imageid, image_path, prdtypecode
    from products_as_of_batch(:batch_id)
    where split = 'train' and prdtypecode is not null
    order by sample_rank nulls last, productid
"""


def run(ground: Ground, weeks: Weeks) -> Report:
    report = Report()
    _read(report, weeks)
    _build(report, ground)
    return report


# ---- reading


def _read(report: Report, weeks: Weeks) -> None:
    conninfo = weeks.after(LAST_WEEK).conninfo(Role.SNAPSHOT)
    variants = {
        "stream_rows": partial(_time_stream, conninfo),
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
    report.add(STAGE, "read: extra memory of stream_rows", in_child(prepare_stream, conninfo).extra_mb, "MB")
    report.add(
        STAGE, "read: extra memory of read_sql", in_usual_child(prepare_read_sql, conninfo).extra_mb, "MB"
    )


def _time_read(conninfo: str, read: Callable[..., None]) -> Sample:
    with connect(conninfo, "benchmark read", autocommit=True) as connection:
        return timed(partial(read, connection), connection.info.backend_pid)


def _time_stream(conninfo: str) -> Sample:
    with connect_arrow(conninfo, "benchmark read") as connection:
        return timed(partial(_stream, connection), backend_pid(connection))


def _stream(connection: ArrowConnection) -> None:
    for _table in stream_rows(connection, LAST_WEEK):
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
        return timed(partial(read_sql, connection), backend_pid)


def read_sql(connection: sqlalchemy.Connection) -> pd.DataFrame:
    return pd.read_sql(sqlalchemy.text(_USUAL), connection, params={"batch_id": LAST_WEEK})


def prepare_stream(conninfo: str) -> Task:
    """In a child: one table at a time."""

    def work() -> None:
        with connect_arrow(conninfo, "benchmark read") as connection:
            _stream(connection)

    return Task(work)


def prepare_read_sql(conninfo: str) -> Task:
    """In a child: the whole frame at once."""

    def work() -> pd.DataFrame:
        with engine(conninfo, "benchmark read").connect() as connection:
            return read_sql(connection)

    return Task(work)


# ---- building


def _build(report: Report, ground: Ground) -> None:
    """Each in a child: what is written first in a process takes longer, and a stage writes once."""
    rows_path = ground.directory / "rows.arrow"
    pyarrow.feather.write_feather(ground.training_rows(), rows_path, compression="uncompressed")
    paths = {name: ground.directory / f"{name}.parquet" for name in ("ours", "usual", "distinct", "leanest")}
    variants = {
        "ours": partial(in_child, prepare_build_ours, rows_path, paths["ours"]),
        "distinct rows": partial(in_child, prepare_distinct, rows_path, paths["distinct"], _DISTINCT),
        "leanest": partial(in_child, prepare_distinct, rows_path, paths["leanest"], _LEANEST),
        "usual": partial(in_usual_child, prepare_build_usual, rows_path, paths["usual"]),
    }
    runs = alternate(variants, ROUNDS, warm_up=False)
    samples = report.samples["snapshot build"] = {
        name: [run.sample for run in several] for name, several in runs.items()
    }
    report.compare(STAGE, "build: fit_resample + to_parquet / ours", samples, "usual", "ours", at_least=5)
    report.compare(
        STAGE, "build: ours / writing the distinct rows", samples, "ours", "distinct rows", at_most=1.5
    )
    report.compare(STAGE, "build: ours / writing them without dictionaries", samples, "ours", "leanest")
    add_memory(report, "build", runs["ours"], runs["usual"], at_least=20)
    _add_sizes(report, {name: path.stat().st_size / MEBIBYTE for name, path in paths.items()})


def _add_sizes(report: Report, size: dict[str, float]) -> None:
    ours = f"build: file of ours, {size['ours']:.1f} MB"
    report.add(STAGE, f"{ours} / of distinct rows", size["ours"] / size["distinct"], "x", at_most=1.05)
    report.add(STAGE, f"{ours} / of those without dictionaries", size["ours"] / size["leanest"], "x")
    usual = f"build: file of the usual way, {size['usual']:.1f} MB / ours"
    report.add(STAGE, usual, size["usual"] / size["ours"], "x")


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


def build_usual(frame: pd.DataFrame, path: Path) -> None:
    features, labels = frame.drop(columns="prdtypecode"), frame["prdtypecode"]
    balanced, balanced_labels = RandomOverSampler(random_state=SEED).fit_resample(features, labels)
    balanced.assign(prdtypecode=balanced_labels).to_parquet(path, index=False)


def prepare_build_ours(rows_path: Path, path: Path) -> Task:
    """In a child: from Arrow rows in memory to the file."""
    rows = pyarrow.feather.read_table(rows_path, memory_map=False)
    _build_ours(rows.slice(0, _FEW_ROWS), path)
    return Task(partial(_build_ours, rows, path))


def prepare_distinct(rows_path: Path, path: Path, options: dict[str, bool]) -> Task:
    """In a child: from Arrow rows in memory to a file without copies."""
    rows = pyarrow.feather.read_table(rows_path, memory_map=False)
    _write_distinct(rows.slice(0, _FEW_ROWS), path, options)
    return Task(partial(_write_distinct, rows, path, options))


def prepare_build_usual(rows_path: Path, path: Path) -> Task:
    """In a child: from a frame in memory to the file."""
    frame = pyarrow.feather.read_table(rows_path, memory_map=False).to_pandas()
    build_usual(frame.head(_FEW_ROWS), path)
    return Task(partial(build_usual, frame, path))


def add_memory(
    report: Report, part: str, ours: list[ChildRun], usual: list[ChildRun], **targets: float
) -> None:
    """Medians, as a child's memory is not quite the same each time."""
    ours_mb, usual_mb = (tuple(run.extra_mb for run in runs) for runs in (ours, usual))
    report.add(STAGE, f"{part}: extra memory of ours", ours_mb, "MB")
    report.add(STAGE, f"{part}: extra memory of the usual way", usual_mb, "MB")
    ratios = tuple(theirs / max(mine, 1) for mine, theirs in zip(ours_mb, usual_mb, strict=True))
    report.add(STAGE, f"{part}: extra memory of the usual way / ours", ratios, "x", **targets)
