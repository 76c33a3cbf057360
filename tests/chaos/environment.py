"""Start what the listeners and the model server need: a real PostgreSQL, a real MLflow server, and a proxy in front of each.

The listeners and the model server connect through the proxies. The loader and the checks connect directly, except in faults of the
loader's connection.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import broken_files
import fake_clock
import psycopg
import search_path
from fleet import Fleet
from listener_processes import LOGIN, Listeners
from mlflow_server import MlflowServer
from proxy import Proxy
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from server_process import ModelServer

from db.connect import connect
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.embedded.waiting import poll
from db.load import steps
from db.source.synthetic import generate
from db.source.training_set import TrainingSet, read_training_set
from shared.config import Settings, environment_for, read_settings
from shared.events import Stage

ROWS = 500  # enough for a few rows of each of the 27 classes, in the training rows and in the holdout
INITIAL, INCREMENT = Decimal(10), Decimal("0.2")  # one row a week, and 451 weeks
DEADLINE_S = 60
SCRATCH_BYTES = 192 * 2**20  # py3langid unpacks its model of 68 MB there
STALL_TIMEOUT_S = 15


class ProxiedDatabase(Database):
    """The database as the listeners reach it."""

    def __init__(self, database: Database, proxy: Proxy):
        super().__init__(database.settings, database.embedded)
        object.__setattr__(self, "_proxy", proxy)  # a frozen dataclass

    def conninfo(self, role: Role) -> str:
        return make_conninfo(super().conninfo(role), port=self._proxy.port)


@dataclass
class Environment:
    """The parts, for faults to break."""

    directory: Path
    settings: Settings
    server: EmbeddedPostgres
    database: Database
    postgres: Proxy
    mlflow_server: MlflowServer
    mlflow: Proxy
    listeners: Listeners
    fleet: Fleet
    model_server: ModelServer
    model_server_postgres: Proxy
    training_set: TrainingSet
    scratch: Path
    scratch_is_limited: bool
    at_exit: ExitStack
    clock_offset_s: int = 0
    spark: Any = (
        None  # a cluster and its store, where the faults are Spark's (tests/spark/spark_environment.py)
    )
    _observer: psycopg.Connection | None = None

    @property
    def breakpoints(self) -> Path:
        return self.directory / "breakpoints"

    def load(self) -> int:
        """Load the next week as Airflow does, past the proxies; returns its batch id."""
        with connect(self.database.conninfo(Role.LOADER), "chaos load") as connection:
            plan = steps.check_current_state(connection, self.settings, self.training_set)
            assert plan is not None, "all weeks are loaded: there are more runs than weeks"
            result = steps.load_increment(connection, plan, self.training_set)
            steps.validate_data_load(connection, result.batch_id)
            steps.complete_batch(connection, result.batch_id)
        return result.batch_id

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows, seen past the proxy by the superuser.

        Raises:
            psycopg.OperationalError: PostgreSQL is away.
        """
        if self._observer is None or self._observer.closed or self._observer.broken:
            self._observer = psycopg.connect(
                self.observer_conninfo(),
                autocommit=True,
                row_factory=dict_row,
                application_name="chaos observer",
                options=search_path.OPTION,
            )
        cursor = self._observer.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def stop_looking(self) -> None:
        if self._observer is not None:
            self._observer.close()

    def record(self, batch_id: int, stage: Stage) -> dict[str, Any]:
        """What PostgreSQL has recorded of a stage."""
        [row] = self.query(
            "select coalesce(metadata -> %s, '{}') as record from data_loads where id = %s", stage, batch_id
        )
        return row["record"]

    def attempt(self, batch_id: int, stage: Stage) -> int:
        return self.record(batch_id, stage).get("attempt", 0)

    def backends(self, stage: Stage, purpose: str = "%") -> list[int]:
        """The pids of the backends of a stage's listener; its purpose is "listen", "work", ..."""
        return [row["pid"] for row in self._sessions(stage, purpose)]

    def ports(self, stage: Stage, purpose: str) -> list[int]:
        """From where the proxy has connected to them."""
        return [row["client_port"] for row in self._sessions(stage, purpose)]

    def _sessions(self, stage: Stage, purpose: str) -> list[dict[str, Any]]:
        return self.query(
            "select pid, client_port from pg_stat_activity where datname = %s and application_name like %s",
            self.settings.postgres_db,
            f"rakuten {stage} {purpose}",
        )

    def terminate(self, pid: int) -> None:
        self.query("select pg_terminate_backend(%s)", pid)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """No batch announces its completion."""
        self.query("alter table data_loads disable trigger _900_notify_update")
        try:
            yield
        finally:
            self.query("alter table data_loads enable always trigger _900_notify_update")

    def fake_clock(self, wanted: bool) -> None:
        """Put PostgreSQL and the listeners on a clock that can be set, or back on the machine's."""
        if wanted == bool(self.fleet.variables):
            return
        self.set_clock(0)
        self.fleet.variables = fake_clock.for_python(self._clock) if wanted else {}
        with self.postgres.refusing():
            self.end_postgres(signal.SIGINT)
            self.start_postgres()
        self.fleet.replace()

    def use_spark(self, *stages: Stage) -> None:
        """Let these stages work on the cluster, and the other ones in their own processes. Mend the cluster."""
        if self.spark is None:
            return
        self.spark.mend()
        engines = {stage: {"ENGINE": "spark"} for stage in stages}
        if self.fleet.stage_variables != engines:
            self.fleet.stage_variables = engines
            self.fleet.replace()

    def set_clock(self, offset_s: int) -> None:
        """Set the fake clock so many seconds ahead of the machine's."""
        fake_clock.set_offset(self._clock, offset_s)
        self.clock_offset_s = offset_s

    def seen_clock_offset_s(self) -> float:
        """How far PostgreSQL is ahead of the machine."""
        [row] = self.query("select extract(epoch from clock_timestamp())::float8 as now")
        return row["now"] - time.time()

    @contextmanager
    def read_only_scratch(self) -> Iterator[None]:
        """The small disk of the temporary files accepts no write: EROFS, as from a disk that the kernel no longer trusts."""
        mount = ["mount", "-o"]
        # The kernel refuses as long as a file is open for writing.
        remounted = lambda: subprocess.run([*mount, "remount,ro", self.scratch], check=False).returncode == 0  # noqa: E731
        assert poll(remounted, timeout_s=DEADLINE_S), "files stay open for writing"
        try:
            yield
        finally:
            subprocess.run([*mount, "remount,rw", self.scratch], check=True)

    @contextmanager
    def broken_files(self) -> Iterator[None]:
        """The children cannot open temporary files: EIO. A disk that breaks cannot be had, so the error comes from Python."""
        marker = broken_files.marker(self.breakpoints)
        marker.touch()
        try:
            yield
        finally:
            marker.unlink()

    def lead_to(self, host: str, port: int) -> None:
        """Lead the listeners to this address from now on. Their connections are reset."""
        with self.postgres.refusing():
            self.postgres.lead_to(lambda: (host, port))

    def take_over(self, server: EmbeddedPostgres) -> None:
        """Lead everybody to another server, which holds the same database."""
        self.server, self.database = server, Database(self.settings, server)
        self.stop_looking()
        self.lead_to(server.host, server.port)

    @property
    def _clock(self) -> Path:
        return self.directory / "clock"

    def postmaster_pid(self) -> int:
        return int((self.server._cluster.data / "postmaster.pid").read_text().splitlines()[0])

    def end_postgres(self, number: signal.Signals) -> None:
        """Send the postmaster a signal and wait for its end."""
        os.kill(self.postmaster_pid(), number)
        assert poll(lambda: not self.server.running, timeout_s=DEADLINE_S), "PostgreSQL does not end"

    def start_postgres(self) -> None:
        """Start PostgreSQL again, on the clock that it is to have."""
        library = fake_clock.find_library() if self.fleet.variables else None
        with fake_clock.exported(fake_clock.for_programs(library, self._clock) if library else {}):
            self.server.start()

    def mend(self) -> None:
        """Start again what an unfinished fault may have left in pieces, and give up what it was about: it is on the board."""
        for leftover in self.breakpoints.iterdir():
            leftover.unlink()
        self.start_postgres()
        self.mlflow_server.start()
        for stage in Stage:
            self.query(
                "update data_loads set metadata = jsonb_set(metadata, array[%s], "
                """coalesce(metadata -> %s, '{}') || '{"state": "failed"}')"""
                " where id in (select batch_id from pending_batches(%s))",
                *[stage] * 3,
            )
        self.fleet.replace()

    def observer_conninfo(self) -> str:
        """As the superuser, past the proxy."""
        return self.server.conninfo(self.settings.postgres_db)

    def variables(self, role: Role) -> dict[str, str]:
        """The environment in which a command reaches the same database, past the proxy."""
        parts = psycopg.conninfo.conninfo_to_dict(self.database.conninfo(role))
        login = {f"POSTGRES_{name}": str(parts[key]) for name, key in LOGIN.items()}
        return environment_for(self.settings) | login


def needs_linux(_environment: Environment) -> str | None:
    """Why a fault cannot be had here: it is the kernel's doing, by means that others have not."""
    return None if sys.platform == "linux" else "needs Linux"


@contextmanager
def open_environment(*, bindir: Path | None = None, **settings: object) -> Iterator[Environment]:
    """An environment in which a listener of each stage starts; everything is ended and removed afterwards.

    `settings` are settings of the listeners, instead of those of this suite.
    """
    memory = Path("/dev/shm")  # noqa: S108
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="rakuten-chaos-",
                    dir=memory if os.access(memory, os.W_OK) else None,
                    ignore_cleanup_errors=True,
                )
            )
        )
        for name in ("breakpoints", "scratch", "state"):
            (directory / name).mkdir()
        limited = stack.enter_context(_limited(directory / "scratch"))
        generate(directory / "data", ROWS)
        server = stack.enter_context(EmbeddedPostgres(directory / "postgres", bindir=bindir, durable=False))
        postgres = stack.enter_context(Proxy(lambda: (server.host, server.port)))
        mlflow_server = stack.enter_context(MlflowServer(directory / "mlflow"))
        mlflow = stack.enter_context(Proxy(lambda: ("127.0.0.1", mlflow_server.port)))
        own = {
            "postgres_host": None,
            "state_path": directory / "state",
            "data_path": directory / "data",
            "initial_percentage": INITIAL,
            "increment_percentage": INCREMENT,
            "mlflow_tracking_uri": f"http://127.0.0.1:{mlflow.port}",
            "stall_timeout_s": STALL_TIMEOUT_S,
            "log_format": "json",
            "pg_bindir": bindir,
        }
        settings = read_settings(**own | settings, _env_file=None)
        database = prepare_embedded(settings, server)
        listeners = Listeners(ProxiedDatabase(database, postgres), settings)
        # a line of its own through theirs, which can be cut alone
        model_server_postgres = stack.enter_context(Proxy(lambda: ("127.0.0.1", postgres.port)))
        model_server = ModelServer(ProxiedDatabase(database, model_server_postgres), settings)
        fleet = stack.enter_context(
            Fleet(listeners, model_server, directory / "breakpoints", directory / "scratch")
        )
        environment = Environment(
            directory,
            settings,
            server,
            database,
            postgres,
            mlflow_server,
            mlflow,
            listeners,
            fleet,
            model_server,
            model_server_postgres,
            read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage),
            directory / "scratch",
            limited,
            stack,
        )
        stack.callback(environment.stop_looking)
        fleet.scale(1)
        yield environment


@contextmanager
def _limited(directory: Path) -> Iterator[bool]:
    """Give a directory a small disk of its own where we may; yields whether it has one."""
    options = ["-t", "tmpfs", "-o", f"size={SCRATCH_BYTES}", "chaos", str(directory)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0  # noqa: S607
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", directory], check=True)  # noqa: S607
