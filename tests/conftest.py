"""One PostgreSQL for the whole run, a copy of a template database for each test."""

import csv
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
import pytest
import search_path
import structlog
from listener_processes import login_variables
from psycopg import sql
from typer.testing import CliRunner

from db.connect import connect
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.load import steps
from db.source.synthetic import generate
from db.source.training_set import TrainingSet, read_training_set
from rakuten import cli
from shared.config import Settings, environment_for, read_settings

TEMPLATE = "template_rakuten"
_numbers = itertools.count()


def _bindir() -> Path | None:
    configured = os.environ.get("PG_BINDIR")  # noqa: TID251
    return Path(configured) if configured else None


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path):
    """A developer's .env, or the CI's environment, must not decide what a test sees."""
    for name in Settings.model_fields:
        if name != "pg_bindir":
            monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _restore_structlog() -> Iterator[None]:
    """A command configures logs to a standard error that pytest takes away when the test ends."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL whose data lies in memory where it can: 18 from the wheel, or PG_BINDIR's."""
    memory = Path("/dev/shm")  # noqa: S108
    directory = Path(
        tempfile.mkdtemp(prefix="rakuten-tests-", dir=memory if os.access(memory, os.W_OK) else None)
    )
    try:
        with EmbeddedPostgres(directory, bindir=_bindir(), durable=False) as running:
            prepare_embedded(
                read_settings(postgres_db=TEMPLATE, pg_bindir=_bindir(), _env_file=None), running
            )
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def database(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Database]:
    """A database of its own, schema and all. NOTIFY channels are per database, so tests cannot hear each other."""
    with fresh_database(server, tmp_path) as made:
        yield made


@pytest.fixture
def another_database(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Database]:
    with fresh_database(server, tmp_path / "another") as made:
        yield made


@pytest.fixture
def new_database(server: EmbeddedPostgres, tmp_path: Path):
    """Makes further databases: `with new_database() as database`; they share one state directory."""
    return lambda: fresh_database(server, tmp_path)


@pytest.fixture(scope="session")
def shared_database(server: EmbeddedPostgres, tmp_path_factory):
    """Makes a database that several tests share, because what they need in it takes long to make: `with shared_database() as ...`."""
    return lambda: fresh_database(server, tmp_path_factory.mktemp("shared"))


@contextmanager
def fresh_database(server: EmbeddedPostgres, state: Path) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        strategy = sql.SQL("strategy file_copy") if server.version >= 15 else sql.SQL("")
        connection.execute(
            sql.SQL("create database {} owner {} template {} {}").format(
                sql.Identifier(name), sql.Identifier(Role.OWNER), sql.Identifier(TEMPLATE), strategy
            )
        )
        # privileges on a database are not copied with it
        for statement in (
            "revoke temporary on database {} from public",
            "grant temporary on database {} to rakuten_loader",
        ):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        try:
            # MLflow leaves its address in the environment, and a session's fixture runs before that of a test that removes it
            own = {"postgres_db": name, "state_path": state / "state", "mlflow_tracking_uri": None}
            yield Database(read_settings(**own, _env_file=None), server)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def pytest_sessionstart() -> None:
    """Let the processes that the tests start end on Ctrl-C. A shell that starts pytest with & makes it, and so them, ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> Path:
    """A small synthetic data set: 600 training rows."""
    directory = tmp_path_factory.mktemp("generated") / "data"
    generate(directory, 600)
    return directory


@pytest.fixture(scope="session")
def shuffled(generated, tmp_path_factory) -> Path:
    """The generated data, each file in another order."""
    directory = tmp_path_factory.mktemp("shuffled")
    random = np.random.default_rng(7)
    for path in generated.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        with (directory / path.name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writerow(header)
            writer.writerows(rows[row] for row in random.permutation(len(rows)))
    return directory


@pytest.fixture
def settings(database: Database, generated: Path) -> Settings:
    """The settings of this test's database, with the generated data as its source."""
    return database.settings.model_copy(update={"data_path": generated})


@pytest.fixture
def training_set(settings: Settings) -> TrainingSet:
    return read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)


@pytest.fixture
def as_role(database: Database):
    """Open a connection of a role: `with as_role(Role.LOADER) as connection`."""

    def open_as(role: Role, **options):
        return connect(database.conninfo(role), "test", **options)

    return open_as


@pytest.fixture
def as_superuser(database: Database, server: EmbeddedPostgres):
    def open_as(**options):
        return psycopg.connect(
            server.conninfo(database.settings.postgres_db), options=search_path.OPTION, **options
        )

    return open_as


@pytest.fixture
def load_weeks(database: Database, settings: Settings, training_set: TrainingSet):
    """Load the next weeks as the loader does; returns their batch ids."""
    return lambda count: load_into(database, settings, training_set, count)


def load_into(database: Database, settings: Settings, training_set: TrainingSet, count: int) -> list[int]:
    batch_ids = []
    with connect(database.conninfo(Role.LOADER), "test load") as connection:
        for _ in range(count):
            plan = steps.check_current_state(connection, settings, training_set)
            result = steps.load_increment(connection, plan, training_set)
            steps.validate_data_load(connection, result.batch_id)
            steps.complete_batch(connection, result.batch_id)
            batch_ids.append(result.batch_id)
    return batch_ids


@pytest.fixture(scope="session")
def load_weeks_into():
    return load_into


@pytest.fixture
def rakuten_as(monkeypatch):
    """Makes `rakuten`, which runs a command in this process, with a login and settings: `rakuten("taint", 7).output`."""

    def logged_in(conninfo: str, settings: Settings):
        for name, value in (environment_for(settings) | login_variables(conninfo)).items():
            monkeypatch.setenv(name, value)
        return lambda *arguments: CliRunner().invoke(cli.app, [str(argument) for argument in arguments])

    return logged_in


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """A Spark session on two cores, which starts once in a run of the tests; they are skipped where Spark cannot run."""
    pytest.importorskip("pyspark")
    from spark_on_this_machine import shared_session  # noqa: PLC0415  it needs pyspark

    with shared_session(tmp_path_factory.mktemp("spark")) as session:
        yield session


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium, for the tests of a module. Without Chromium they are skipped, or fail where it is required (programs.py)."""
    from browser import chromium  # noqa: PLC0415  few tests need playwright

    with chromium() as started:
        yield started
