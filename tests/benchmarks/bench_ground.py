"""What the benchmarks stand on: generated source files and, where one is needed, an embedded PostgreSQL, both temporary."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from db.connect import connect
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.load import steps
from db.source.synthetic import generate
from db.source.training_set import TrainingSet, read_training_set
from listeners.snapshot.parquet import SCHEMA
from shared.config import Settings, read_settings

# Vacuuming in the background would be somebody's CPU time; here it runs when a database is complete.
_SERVER_SETTINGS = {"autovacuum": "off"}

# A column for each index that a load writes to, ours and the usual way's.
_INDEXED = (
    ("products", "id"),
    ("products", "productid"),
    ("labels", "id"),
    ("labels", "productid"),
    ("products_history", "history_id"),
    ("products_history", "product_id"),
    ("labels_history", "history_id"),
    ("labels_history", "label_id"),
)

FEW_ROWS = 600  # enough for every class, and next to no work
FIRST_WEEK, SECOND_LAST_WEEK, LAST_WEEK = 1, 20, 21


@dataclass(frozen=True)
class Ground:
    """Source files and the settings that name them."""

    directory: Path
    settings: Settings
    training_set: TrainingSet

    def training_rows(self) -> pa.Table:
        """What a snapshot of the whole file holds before balancing, in its order, without a database."""
        rows = self.training_set.rows(0, self.training_set.total_rows)
        rows = rows.filter(pc.equal(rows["split"], "train"))
        return rows.select(SCHEMA.names).cast(SCHEMA).combine_chunks()


@contextmanager
def prepared_ground(rows: int, **settings: object) -> Iterator[Ground]:
    """Generated files of that many training rows, removed at the end; `settings` differ from the defaults."""
    directory = Path(tempfile.mkdtemp(prefix="rakuten-benchmarks-"))
    try:
        generate(directory / "raw", rows)
        settings = _settings(directory, **settings)
        training_set = read_training_set(
            settings.data_path, settings.random_seed, settings.holdout_percentage
        )
        yield Ground(directory, settings, training_set)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _settings(directory: Path, **different: object) -> Settings:
    """The defaults, whatever the environment says."""
    fixed = {
        name: field.get_default()
        for name, field in Settings.model_fields.items()
        if name not in {"pg_bindir", "data_path", "state_path"}
    }
    return read_settings(
        data_path=directory / "raw", state_path=directory / "state", _env_file=None, **fixed | different
    )


class Weeks:
    """Databases as certain weeks have left them; a measurement works on a copy of one, which it may spoil."""

    def __init__(self, ground: Ground, server: EmbeddedPostgres) -> None:
        self.ground = ground
        self.server = server
        self.empty = "week_0"
        prepare_embedded(self.database(self.empty).settings, server)
        self._previous = self.empty
        for week in (FIRST_WEEK, SECOND_LAST_WEEK, LAST_WEEK):
            self._load_up_to(week)

    def database(self, name: str) -> Database:
        return Database(self.ground.settings.model_copy(update={"postgres_db": name}), self.server)

    def after(self, week: int) -> Database:
        """The database as this week has left it; not to be changed."""
        return self.database(f"week_{week}")

    @contextmanager
    def copy_of(self, name: str) -> Iterator[Database]:
        """A database of one's own, as another one is."""
        self.create("scratch", name)
        try:
            self._read_indexes("scratch")
            yield self.database("scratch")
        finally:
            self.administer("drop database scratch with (force)")

    def _read_indexes(self, name: str) -> None:
        """Into PostgreSQL's memory: a copy begins cold, and reading it would be taken for work."""
        with psycopg.connect(self.server.conninfo(name)) as connection:
            backend = psutil.Process(connection.info.backend_pid)
            connection.execute("set enable_seqscan = off")
            for table, column in _INDEXED:
                connection.execute(
                    sql.SQL("select count({}) from {}").format(sql.Identifier(column), sql.Identifier(table))
                )
        psutil.wait_procs([backend])  # its time would count as work, were it reaped later

    def create(self, name: str, template: str = "template1") -> None:
        # a plain copy of the files: reading the template through the WAL would cost more than what is measured
        statement = "create database {} template {} strategy file_copy"
        self.administer(statement, name, template)

    def administer(self, statement: str, *identifiers: str) -> None:
        with psycopg.connect(self.server.conninfo(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, identifiers)))

    def settle(self, database: Database) -> None:
        """What autovacuum would have done since the last load."""
        with self.as_superuser(database, autocommit=True) as connection:
            connection.execute("vacuum (analyze)")
            connection.execute("checkpoint")

    def as_superuser(self, database: Database, **options: bool) -> steps.Connection:
        return psycopg.connect(self.server.conninfo(database.settings.postgres_db), **options)

    def _load_up_to(self, week: int) -> None:
        database = self.after(week)
        self.create(database.settings.postgres_db, self._previous)
        with connect(database.conninfo(Role.LOADER), "benchmark load") as connection:
            while (plan := self.plan(connection)) is not None and plan.week <= week:
                finish_load(connection, steps.load_increment(connection, plan, self.ground.training_set))
        self.settle(database)
        self._previous = database.settings.postgres_db

    def plan(self, connection: steps.Connection) -> steps.LoadPlan | None:
        """The next week's plan of the database that the connection is to."""
        return steps.check_current_state(connection, self.ground.settings, self.ground.training_set)


def finish_load(connection: steps.Connection, result: steps.LoadResult) -> None:
    """The two steps after the rows."""
    steps.validate_data_load(connection, result.batch_id)
    steps.complete_batch(connection, result.batch_id)


@contextmanager
def loaded_weeks(ground: Ground) -> Iterator[Weeks]:
    """An embedded PostgreSQL with every week loaded; PostgreSQL stops at the end."""
    directory = ground.directory / "postgres"
    bindir = ground.settings.pg_bindir
    with EmbeddedPostgres(directory, bindir=bindir, durable=False, settings=_SERVER_SETTINGS) as server:
        yield Weeks(ground, server)
