"""A week of 3 %: ours beside a raw COPY of the same rows, beside the least that the same tables cost, and beside the usual way."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import bench_load_usual as usual
import psycopg
import pyarrow as pa
import pyarrow.csv
from bench_ground import FIRST_WEEK, SECOND_LAST_WEEK, Ground, Weeks, finish_load
from bench_measure import Report, Sample, Task, alternate, in_child, timed

from db.connect import connect
from db.database import Database, Role
from db.load import steps
from db.source.training_set import TrainingSet, read_training_set
from rakuten.commands.load import load_week
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
_WITHOUT_STATISTICS = "create or replace function internal.analyze_tables() returns void language sql as ''"
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

    def chunks(self, _first_rank: int, _end_rank: int) -> Iterator[pa.Table]:
        yield self.week

    def labels(self, _first_rank: int, _end_rank: int) -> pa.Table:
        return self.week.select(_LABEL_COLUMNS)


def run(ground: Ground, weeks: Weeks) -> Report:
    """Compare the variants after week 1 (40 %) and after week 20 (97 %), all in one run."""
    variants = {}
    for loaded, before in (("40 %", FIRST_WEEK), ("97 %", SECOND_LAST_WEEK)):
        rows = _week_of_rows(ground, before + 1)
        ours = partial(_load_increment, weeks, before)
        usual.prepare(ground, weeks, before)
        variants |= {
            f"ours at {loaded}": partial(ours, ground.training_set),
            f"rows prepared at {loaded}": partial(ours, _Prepared(rows)),
            f"unaudited at {loaded}": partial(ours, ground.training_set, preparation=_UNAUDITED),
            f"raw COPY at {loaded}": partial(_copy_raw, weeks, before, _as_csv(rows)),
            f"floor at {loaded}": partial(_copy_into_tables, weeks, before, _as_copies(rows)),
            f"unaudited floor at {loaded}": partial(_copy_into_tables, weeks, before, _as_copies(rows)[:2]),
            f"from the files at {loaded}": partial(_load_from_files, weeks, before),
            f"sealed at {loaded}": partial(_load_from_files, weeks, before, finish=True),
            f"sealed without statistics at {loaded}": partial(
                _load_from_files, weeks, before, finish=True, preparation=_WITHOUT_STATISTICS
            ),
            f"usual at {loaded}": partial(usual.load_week, weeks, before, "update"),
            f"usual, do nothing, at {loaded}": partial(usual.load_week, weeks, before, "nothing"),
            f"to_sql of the week at {loaded}": partial(usual.append_week, weeks, before),
        }
    report = Report(samples={STAGE: alternate(variants, ROUNDS)})
    _compare(report)
    _measure_memory(report, ground, weeks)
    return report


def _compare(report: Report) -> None:
    samples = report.samples[STAGE]
    compare = partial(report.compare, STAGE)
    for at in ("at 40 %", "at 97 %"):
        ours, prepared, raw, floor = f"ours {at}", f"rows prepared {at}", f"raw COPY {at}", f"floor {at}"
        whole, usually = f"from the files {at}", f"usual {at}"
        compare(f"usual way, files to rows / ours, {at}", samples, usually, whole, at_least=10)
        compare("  the same, conflicts ignored", samples, f"usual, do nothing, {at}", whole)
        compare("  the usual way / ours, validated and sealed", samples, usually, f"sealed {at}")
        bare = f"sealed without statistics {at}"
        compare("  ours, validated and sealed / without ANALYZE", samples, f"sealed {at}", bare, at_most=1.15)
        compare(f"load_increment / raw COPY, unlogged, {at}", samples, ours, raw, at_most=3.9)
        compare("  of it once the rows are prepared", samples, prepared, raw)
        compare("  the same rows COPYed into the four tables / raw COPY", samples, floor, raw)
        compare("  rows prepared / COPYed into the four tables", samples, prepared, floor)
        compare(f"load_increment / same without audit, {at}", samples, ours, f"unaudited {at}", at_most=1.1)
        compare("  COPYed into four tables / into two", samples, floor, f"unaudited floor {at}")
        week_only = f"to_sql of the week {at}"
        compare("  to_sql of the week's rows / ours, rows prepared", samples, week_only, prepared)
    compare("load_increment at 97 % / at 40 %", samples, "ours at 97 %", "ours at 40 %", at_most=1.15)
    compare("from the files at 97 % / at 40 %", samples, "from the files at 97 %", "from the files at 40 %")


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
            training_set = read_training_set(
                settings.data_path, settings.random_seed, settings.holdout_percentage
            )
            report = load_week(connection, settings, training_set)
            assert report is not None
            return int(report["new_rows"])

    return Task(work, int)


def _week_of_rows(ground: Ground, week: int) -> pa.Table:
    first, end = (
        steps.target_rows(ground.training_set.total_rows, ground.settings.percentage_of(number))
        for number in (week - 1, week)
    )
    return ground.training_set.rows(first, end).select(_COLUMNS).sort_by("productid").combine_chunks()


def _load_increment(
    weeks: Weeks, before: int, training_set: TrainingSet | _Prepared, *, preparation: str | None = None
) -> Sample:
    with weeks.copy_of(f"week_{before}") as database:
        _prepare(weeks, database, preparation)
        with connect(database.conninfo(Role.LOADER), "benchmark load") as connection:
            plan = weeks.plan(connection)
            assert plan is not None
            step = partial(steps.load_increment, connection, plan, training_set)
            return timed(step, connection.info.backend_pid)


def _load_from_files(
    weeks: Weeks, before: int, *, finish: bool = False, preparation: str | None = None
) -> Sample:
    """The week from the files to the committed rows, or to the validated and sealed batch."""
    settings = weeks.ground.settings

    def load(connection: steps.Connection) -> None:
        training_set = read_training_set(
            settings.data_path, settings.random_seed, settings.holdout_percentage
        )
        plan = steps.check_current_state(connection, settings, training_set)
        assert plan is not None
        result = steps.load_increment(connection, plan, training_set)
        if finish:
            finish_load(connection, result)

    with weeks.copy_of(f"week_{before}") as database:
        _prepare(weeks, database, preparation)
        with connect(database.conninfo(Role.LOADER), "benchmark load") as connection:
            return timed(partial(load, connection), connection.info.backend_pid)


def _prepare(weeks: Weeks, database: Database, preparation: str | None) -> None:
    if preparation is not None:
        with weeks.as_superuser(database) as superuser:
            superuser.execute(preparation)


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


@dataclass(frozen=True)
class _Copy:
    statement: str
    csv: bytes


def _as_copies(rows: pa.Table) -> list[_Copy]:
    """What the load writes into each table, as CSV; the history's other columns have defaults."""
    moment = datetime.now(UTC).isoformat()
    history = pa.table(
        {
            "operation_type": ["INSERT"] * rows.num_rows,
            "operation_date": [moment] * rows.num_rows,
            "load_batch_id": pa.array([1] * rows.num_rows),
        }
    )
    copies = []
    tables = (("products", "product_id", _PRODUCT_COLUMNS), ("labels", "label_id", _LABEL_COLUMNS))
    for table, _, columns in tables:
        copies.append(_copy_of(table, rows.select(columns)))
    for table, key, columns in tables:
        entries = rows.select(columns).append_column(key, rows["sample_rank"])
        for column in history.column_names:
            entries = entries.append_column(column, history[column])
        copies.append(_copy_of(f"{table}_history", entries))
    return copies


def _copy_of(table: str, rows: pa.Table) -> _Copy:
    return _Copy(f"copy {table} ({', '.join(rows.column_names)}) from stdin (format csv)", _as_csv(rows))


def _copy_into_tables(weeks: Weeks, before: int, copies: Iterable[_Copy]) -> Sample:
    """The floor: bytes that are ready, into the tables with their indexes and constraints, without a trigger."""

    def copy(connection: psycopg.Connection) -> None:
        for one in copies:
            with connection.cursor() as cursor, cursor.copy(one.statement) as sink:
                sink.write(one.csv)
        connection.commit()

    with weeks.copy_of(f"week_{before}") as database, weeks.as_superuser(database) as connection:
        connection.execute(_UNAUDITED)
        connection.commit()
        return timed(partial(copy, connection), connection.info.backend_pid)
