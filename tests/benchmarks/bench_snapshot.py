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
from bench_measure import MEBIBYTE, Report, Sample, Task, alternate, in_child, timed
from imblearn.over_sampling import RandomOverSampler

from db.connect import connect, engine
from db.database import Role
from db.sql import query
from listeners.snapshot import parquet
from listeners.snapshot.balance import multiplicities
from listeners.snapshot.read import SCHEMA, read_labels, stream_rows

STAGE = "snapshot"
ROUNDS = 5
SEED = 42
_FEW_ROWS = 100  # built once before memory is measured: libraries load some of their code on first use

_AS_OF = query("copy_training_rows").partition("copy (")[2].rpartition(") to stdout")[0]
_CURRENT = _AS_OF.replace("products_as_of_batch(%(batch_id)s)", "training_products").replace(
    "split = 'train' and ", ""
)


def run(ground: Ground, weeks: Weeks) -> Report:
    report = Report()
    _read(report, weeks)
    _build(report, ground)
    return report


# ---- reading


def _read(report: Report, weeks: Weeks) -> None:
    conninfo = weeks.after(LAST_WEEK).conninfo(Role.SNAPSHOT)
    variants = {
        "stream_rows": partial(_time_read, conninfo, _stream),
        "COPY discarded": partial(_time_read, conninfo, partial(_discard, _AS_OF)),
        "COPY discarded, current table": partial(_time_read, conninfo, partial(_discard, _CURRENT)),
        "read_labels": partial(_time_read, conninfo, _labels),
        "read_sql": partial(_time_read_sql, conninfo),
    }
    samples = report.samples["snapshot read"] = alternate(variants, ROUNDS)
    report.compare(
        STAGE,
        "read: stream_rows / COPY discarded",
        samples,
        "stream_rows",
        "COPY discarded",
        at_most=1.5,
    )
    report.compare(STAGE, "read: read_sql / stream_rows", samples, "read_sql", "stream_rows")
    report.compare(STAGE, "read: read_labels / COPY discarded", samples, "read_labels", "COPY discarded")
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


def _labels(connection) -> None:
    read_labels(connection, LAST_WEEK)


def _discard(select: str, connection) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy ({select}) to stdout (format csv)", {"batch_id": LAST_WEEK}) as copy,
    ):
        for _block in copy:
            pass


def _time_read_sql(conninfo: str) -> Sample:
    with engine(conninfo, "benchmark read").connect() as connection:
        backend_pid = connection.scalar(sqlalchemy.text("select pg_backend_pid()"))
        return timed(partial(_read_sql, connection), backend_pid)


def _read_sql(connection: sqlalchemy.Connection) -> pd.DataFrame:
    statement = sqlalchemy.text(_AS_OF.replace("%(batch_id)s", ":batch_id"))
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
    paths = {name: ground.directory / f"{name}.parquet" for name in ("ours", "usual", "distinct")}
    rows = pyarrow.feather.read_table(rows_path, memory_map=False)
    frame = rows.to_pandas()
    samples = report.samples["snapshot build"] = alternate(
        {
            "ours": lambda: timed(partial(_build_ours, rows, paths["ours"])),
            "distinct rows": lambda: timed(partial(_write_distinct, rows, paths["distinct"])),
            "usual": lambda: timed(partial(_build_usual, frame, paths["usual"])),
        },
        ROUNDS,
    )
    size = {name: path.stat().st_size / MEBIBYTE for name, path in paths.items()}
    report.compare(STAGE, "build: fit_resample + to_parquet / ours", samples, "usual", "ours", at_least=4)
    report.compare(STAGE, "build: ours / writing the distinct rows", samples, "ours", "distinct rows")
    ours = in_child(prepare_build_ours, rows_path, paths["ours"])
    usual = in_child(prepare_build_usual, rows_path, paths["usual"])
    report.add(STAGE, "build: extra memory of ours", ours.extra_mb, "MB", at_most=50)
    report.add(STAGE, "build: extra memory of the usual way", usual.extra_mb, "MB")
    report.add(
        STAGE,
        f"build: file of ours, {size['ours']:.1f} MB / of distinct rows",
        size["ours"] / size["distinct"],
        "x",
        at_most=1.1,
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


def _write_distinct(rows: pa.Table, path: Path) -> None:
    """The physical limit: each row once with its number of copies, and the settings that `write_balanced` has."""
    counted = rows.append_column("multiplicity", pa.array(_multiplicities(rows)))
    with pq.ParquetWriter(
        path,
        SCHEMA.append(pa.field("multiplicity", pa.int64())),
        compression="zstd",
        compression_level=parquet._ZSTD_LEVEL,
        dictionary_pagesize_limit=parquet._DICTIONARY_BYTES,
    ) as writer:
        for chunk in _chunks(counted):
            writer.write_table(chunk)


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
