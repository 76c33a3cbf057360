"""A week of 3 %: ours beside a raw COPY of the same rows, beside itself without the audit, and beside pandas.to_sql."""

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.csv
import sqlalchemy
from bench_ground import FIRST_WEEK, SECOND_LAST_WEEK, Ground, Weeks, finish_load
from bench_measure import Report, Sample, Task, alternate, in_child, timed

from db import load, source
from db.connect import connect, engine
from db.database import Database, Role
from listeners.commands.load import load_week
from shared.config import Settings

STAGE = "load"
ROUNDS = 7

_PRODUCT_COLUMNS = (
    "productid",
    "designation",
    "description",
    "imageid",
    "image_path",
    "sample_rank",
    "split",
)
_LABEL_COLUMNS = ("productid", "prdtypecode")
_COLUMNS = (*_PRODUCT_COLUMNS, "prdtypecode")
_UNAUDITED = "alter table products disable trigger user; alter table labels disable trigger user"
_BARE = """
    create unlogged table bare (
        productid bigint, designation text, description text, imageid bigint, image_path text,
        sample_rank bigint, split text, prdtypecode integer
    )
"""


@dataclass(frozen=True)
class _Prepared:
    """A training set whose week is cut out, marked as holdout or not, and ready to send."""

    week: pa.Table

    def rows(self, _first_rank: int, _end_rank: int) -> pa.Table:
        return self.week


def run(ground: Ground, weeks: Weeks) -> Report:
    """Compare the variants after week 1 (40 %) and after week 20 (97 %), all in one run."""
    variants = {}
    for loaded, before in (("40 %", FIRST_WEEK), ("97 %", SECOND_LAST_WEEK)):
        rows = _week_of_rows(ground, before + 1)
        ours = partial(_load_increment, weeks, before)
        _prepare_usual(ground, weeks, before)
        variants |= {
            f"ours at {loaded}": partial(ours, ground.training_set),
            f"rows prepared at {loaded}": partial(ours, _Prepared(rows)),
            f"four steps at {loaded}": partial(_load_four_steps, weeks, before),
            f"unaudited at {loaded}": partial(ours, ground.training_set, preparation=_UNAUDITED),
            f"raw COPY at {loaded}": partial(_copy_raw, weeks, before, _as_csv(rows)),
            f"to_sql at {loaded}": partial(_to_sql, weeks, before, rows),
        }
    report = Report(samples={STAGE: alternate(variants, ROUNDS)})
    _compare(report)
    _measure_memory(report, ground, weeks)
    return report


def _compare(report: Report) -> None:
    samples = report.samples[STAGE]
    for loaded in ("40 %", "97 %"):
        ours, raw = f"ours at {loaded}", f"raw COPY at {loaded}"
        report.compare(STAGE, f"{ours} / raw COPY, unlogged", samples, ours, raw, at_most=4.5)
        prepared = f"rows prepared at {loaded}"
        report.compare(STAGE, f"  of it once the rows are prepared, at {loaded}", samples, prepared, raw)
        report.compare(STAGE, f"{ours} / same without audit", samples, ours, f"unaudited at {loaded}")
        usual = f"to_sql at {loaded}"
        report.compare(STAGE, f"to_sql + row trigger / {ours}", samples, usual, ours)
        report.compare(STAGE, f"  once the rows are prepared, at {loaded}", samples, usual, prepared)
        report.compare(STAGE, f"all four steps / {ours}", samples, f"four steps at {loaded}", ours)
    report.compare(
        STAGE, "ours at 97 % / ours at 40 %", samples, "ours at 97 %", "ours at 40 %", at_most=1.15
    )


def _measure_memory(report: Report, ground: Ground, weeks: Weeks) -> None:
    """The first week is the largest load: 40 % at once."""
    weeks.create("empty", weeks.empty)
    conninfo = weeks.database("empty").conninfo(Role.LOADER)
    child = in_child(prepare_first_week, conninfo, ground.settings)
    report.add(
        STAGE, f"peak memory of `rakuten load`, {child.result:,} rows", child.peak_mb, "MB", at_most=500
    )
    report.add(STAGE, "  of it beyond the imports", child.extra_mb, "MB")


def prepare_first_week(conninfo: str, settings: Settings) -> Task:
    """In a child: `rakuten load` on an empty database, from the files to the completed batch."""

    def work() -> int:
        with connect(conninfo, "benchmark load") as connection:
            training_set = source.read_training_set(
                settings.data_path, settings.random_seed, settings.holdout_percentage
            )
            report = load_week(connection, settings, training_set)
            assert report is not None
            return int(report["new_rows"])

    return Task(work, int)


def _week_of_rows(ground: Ground, week: int) -> pa.Table:
    first, end = (
        load.target_rows(ground.training_set.total_rows, ground.settings.percentage_of(number))
        for number in (week - 1, week)
    )
    return ground.training_set.rows(first, end).select(_COLUMNS)


def _load_increment(
    weeks: Weeks, before: int, training_set: source.TrainingSet | _Prepared, *, preparation: str | None = None
) -> Sample:
    with weeks.copy_of(f"week_{before}") as database:
        if preparation is not None:
            with weeks.as_superuser(database) as superuser:
                superuser.execute(preparation)
        with connect(database.conninfo(Role.LOADER), "benchmark load") as connection:
            plan = weeks.plan(connection)
            assert plan is not None
            step = partial(load.load_increment, connection, plan, training_set)
            return timed(step, connection.info.backend_pid)


def _load_four_steps(weeks: Weeks, before: int) -> Sample:
    def steps(connection: load.Connection) -> None:
        plan = weeks.plan(connection)
        assert plan is not None
        finish_load(connection, load.load_increment(connection, plan, weeks.ground.training_set))

    with (
        weeks.copy_of(f"week_{before}") as database,
        connect(database.conninfo(Role.LOADER), "benchmark load") as connection,
    ):
        return timed(partial(steps, connection), connection.info.backend_pid)


def _as_csv(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(rows, buffer, pyarrow.csv.WriteOptions(include_header=False))
    return buffer.getvalue()


def _copy_raw(weeks: Weeks, before: int, csv: bytes) -> Sample:
    """The physical limit: bytes that are ready, into a table that has nothing to keep."""

    def copy(connection: psycopg.Connection) -> None:
        with connection.cursor() as cursor, cursor.copy("copy bare from stdin (format csv)") as sink:
            sink.write(csv)
        connection.commit()

    with weeks.copy_of(f"week_{before}") as database, weeks.as_superuser(database) as connection:
        connection.execute(_BARE)
        connection.commit()
        return timed(partial(copy, connection), connection.info.backend_pid)


def _prepare_usual(ground: Ground, weeks: Weeks, week: int) -> None:
    """A database with the usual tables, filled as far as ours."""
    database = weeks.database(f"usual_{week}")
    weeks.create(database.settings.postgres_db)
    end = load.target_rows(ground.training_set.total_rows, ground.settings.percentage_of(week))
    rows = ground.training_set.rows(0, end)
    with weeks.as_superuser(database) as connection:
        connection.execute((Path(__file__).parent / "usual_load.sql").read_text(encoding="utf-8"))
        for table, columns in (("products", _PRODUCT_COLUMNS), ("labels", _LABEL_COLUMNS)):
            statement = f"copy {table} ({', '.join(columns)}) from stdin (format csv)"
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(_as_csv(rows.select(columns)))
    weeks.settle(database)


def _to_sql(weeks: Weeks, before: int, rows: pa.Table) -> Sample:
    frame = rows.to_pandas()

    def send(connection: sqlalchemy.Connection) -> None:
        for table, columns in (("products", _PRODUCT_COLUMNS), ("labels", _LABEL_COLUMNS)):
            frame[list(columns)].to_sql(table, connection, if_exists="append", index=False)
        connection.commit()

    with (
        weeks.copy_of(f"usual_{before}") as database,
        _superuser_engine(weeks, database).connect() as connection,
    ):
        backend_pid = connection.scalar(sqlalchemy.text("select pg_backend_pid()"))
        return timed(partial(send, connection), backend_pid)


def _superuser_engine(weeks: Weeks, database: Database) -> sqlalchemy.Engine:
    return engine(weeks.server.conninfo(database.settings.postgres_db), "benchmark to_sql")
