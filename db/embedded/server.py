"""Start the PostgreSQL server whose data is in one directory, or attach to it; give its address to clients; and stop it."""

import os
import re
import shlex
import socket
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Self

from psycopg.conninfo import make_conninfo

from db.embedded.cluster import SUPERUSER, Cluster
from db.embedded.owned import OwnedServer
from db.embedded.postmaster import (
    OWNER_SETTING,
    Postmaster,
    clear_leftovers,
    find_postmaster,
    is_postmaster_of,
    shut_down,
)
from db.embedded.programs import Programs, load_programs
from db.embedded.waiting import poll
from shared.errors import DatabaseUnavailableError

HOST = "127.0.0.1"

_DEFAULT_SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# These settings lose data only if the machine crashes. synchronous_commit stays on: without fsync, it costs only microseconds,
# and it keeps every commit if kill -9 ends a server process.
_UNSAFE_BUT_FAST = {"fsync": "off", "full_page_writes": "off"}
# The caller of EmbeddedPostgres cannot change these settings. Only programs on this machine can connect to the server, and
# the server writes its log only to `server.log`.
_FIXED_SETTINGS = {"listen_addresses": HOST, "unix_socket_directories": "", "logging_collector": "off"}

_START_TIMEOUT_S = 120  # enough even after a crash, when PostgreSQL must first recover its data
_START_INTERVAL_S = 0.5
_PG_CTL_TIMEOUT_S = _START_TIMEOUT_S + 10  # longer, so that pg_ctl first gives up by its own --timeout
_LOCK_TIMEOUT_S = 300  # longer than another process needs to create (120 s) and start (120 s) the server

# If the log shows one of these faults, a second try may succeed. Either another program has just taken the chosen port, or
# processes of a killed server still run (on a system without /proc, `clear_leftovers` cannot find them).
_TRANSIENT_FAULTS = re.compile("Address already in use|pre-existing shared memory block")

_Launch = Callable[[], Postmaster | None]


class EmbeddedPostgres:
    """The PostgreSQL server whose data is in one directory. Clients on this machine connect by TCP, with a password.

    Args:
        directory: contains all files: `data/`, `password`, `server.log` and `lock`. It is created if it is missing.
        bindir: the directory of the programs `postgres`, `initdb` and `pg_ctl`. If it is None, the programs of an installed
            Python wheel are used, or else those of the operating system.
        durable: False makes the server faster, for tests, but a crash of the machine can then destroy the data.
        settings: more PostgreSQL settings, for a server that this object starts. They do not change a server that is
            already running.
    """

    def __init__(
        self,
        directory: Path,
        *,
        bindir: Path | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster = Cluster(directory)
        self._bindir = bindir
        self._durable = durable
        self._settings = {
            **_DEFAULT_SETTINGS,
            **({} if durable else _UNSAFE_BUT_FAST),
            **(settings or {}),
            **_FIXED_SETTINGS,
        }
        self._postmaster: Postmaster | None = None
        self._owned_server: OwnedServer | None = None

    # ---- starting and stopping the server

    def start(self) -> Self:
        """Attach to the server of this directory if one runs. Otherwise, start one that stops when this process ends.

        Raises:
            DatabaseUnavailableError: there is no usable PostgreSQL, or it does not start.
        """
        return self._start(self._launch_owned)

    def attach(self) -> bool:
        """Attach to the running server of this directory. Return False if no server runs. Never start a server."""
        if not self.running and self._cluster.exists:
            self._postmaster = self._find_serving()
        return self.running

    def start_in_background(self) -> Self:
        """Attach to the server of this directory if one runs. Otherwise, start one that keeps running after this process.

        Raises:
            DatabaseUnavailableError: there is no usable PostgreSQL, or it does not start.
        """
        return self._start(self._launch_detached)

    def stop(self) -> None:
        """Stop the server if this object started it. If this object only attached to a running server, do nothing.

        Raises:
            DatabaseUnavailableError: the server does not stop.
        """
        if self._owned_server is not None and not self._owned_server.stop():
            raise self._cluster.failure(f"the PostgreSQL in {self._cluster.directory} does not stop")
        self._owned_server = None
        self._postmaster = None

    def stop_background(self) -> bool:
        """Stop the server of this directory, even if another process started it. Return False if no server runs.

        Raises:
            DatabaseUnavailableError: the server does not stop.
        """
        if self.owned:
            self.stop()
            return True
        self._postmaster = None
        if not self._cluster.directory.exists():
            return False
        with self._cluster.lock(timeout_s=_LOCK_TIMEOUT_S):
            postmaster = find_postmaster(self._cluster.data)
            if postmaster is not None:
                self._shut_down(postmaster)
        return postmaster is not None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- what clients of the server need: its state, its address, its password, the paths of its programs

    @property
    def owned(self) -> bool:
        """Tell whether this object, in this process, started the server and will stop it."""
        return self._owned_server is not None and self._owned_server.started_here

    @property
    def running(self) -> bool:
        """Tell whether the server that this object started or attached to still runs."""
        if self._postmaster is None:
            return False
        if self._owned_server is not None and self._owned_server.started_here:
            return not self._owned_server.has_exited
        return is_postmaster_of(self._postmaster.pid, self._cluster.data)

    @property
    def host(self) -> str:
        return HOST

    @property
    def port(self) -> int:
        if self._postmaster is None or self._postmaster.port is None:
            raise DatabaseUnavailableError(f"the PostgreSQL in {self._cluster.directory} is not started")
        return self._postmaster.port

    @property
    def password(self) -> str:
        """Return the password of the PostgreSQL superuser."""
        return self._cluster.password

    @property
    def version(self) -> int:
        """Return the major version of the PostgreSQL that created the data directory."""
        return self._cluster.version

    def conninfo(self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """Return a libpq connection string for a user. The superuser's password is filled in if `password` is None."""
        if password is None and user == SUPERUSER:
            password = self.password
        return make_conninfo(host=self.host, port=self.port, dbname=dbname, user=user, password=password)

    def program(self, name: str) -> str:
        """Return the path of a PostgreSQL program, such as psql, of the same version as the server."""
        return self._programs.path(name)

    # ---- how the server is started and stopped

    def _start(self, launch: _Launch) -> Self:
        if self.running:
            return self
        self.stop()  # if the server of this object was killed, end the server's watchdog process
        with self._cluster.lock(timeout_s=_LOCK_TIMEOUT_S):
            self._postmaster = self._find_serving() or self._start_anew(launch)
        return self

    def _find_serving(self) -> Postmaster | None:
        """Stop a server whose owner process died. Wait while a server starts or stops. Return the running server, or None."""
        postmaster = find_postmaster(self._cluster.data)
        if postmaster is not None and postmaster.orphaned:
            self._shut_down(postmaster)
        settled = poll(self._has_settled, timeout_s=_START_TIMEOUT_S)
        postmaster = find_postmaster(self._cluster.data)
        if not settled and postmaster is not None:
            raise self._cluster.failure(
                f"the PostgreSQL in {self._cluster.directory} (pid {postmaster.pid}) neither starts nor stops"
            )
        return postmaster

    def _has_settled(self) -> bool:
        postmaster = find_postmaster(self._cluster.data)
        return postmaster is None or (postmaster.accepts_connections and not postmaster.orphaned)

    def _start_anew(self, launch: _Launch) -> Postmaster:
        if not self._cluster.exists:
            self._cluster.create(self._programs, durable=self._durable)
        self._cluster.check_version(self._programs)
        self._cluster.prepare_log(self._programs)
        clear_leftovers(self._cluster.data)
        postmaster = poll(
            partial(self._try_to_launch, launch), timeout_s=_START_TIMEOUT_S, interval_s=_START_INTERVAL_S
        )
        if postmaster is None:
            raise self._cluster.failure(f"the PostgreSQL in {self._cluster.directory} did not start")
        return postmaster

    def _try_to_launch(self, launch: _Launch) -> Postmaster | None:
        """Launch the server once. Return None if it did not start but another try may succeed.

        Raises:
            DatabaseUnavailableError: the server did not start, and another try would fail, too.
        """
        log_size = self._cluster.log_size()
        postmaster = launch()
        if postmaster is None and not _TRANSIENT_FAULTS.search(self._cluster.read_log(from_byte=log_size)):
            raise self._cluster.failure(f"the PostgreSQL in {self._cluster.directory} did not start")
        return postmaster

    def _launch_owned(self) -> Postmaster | None:
        options = [*self._server_options(), f"--{OWNER_SETTING}={os.getpid()}"]
        self._owned_server = server = OwnedServer(
            [self._programs.path("postgres"), "-D", str(self._cluster.data), *options],
            account=self._programs.account,
            log_path=self._cluster.log_path,
        )
        postmaster = None
        try:
            poll(lambda: server.has_exited or self._find_accepting(), timeout_s=_START_TIMEOUT_S)
            postmaster = self._find_accepting()
        finally:
            if postmaster is None:  # the server did not start in time, or Ctrl-C interrupted the wait
                self.stop()
        return postmaster

    def _launch_detached(self) -> Postmaster | None:
        """Launch the server with pg_ctl, not as a child process, so that it keeps running when the terminal is closed."""
        self._programs.run(
            "pg_ctl",
            "start",
            "--silent",
            f"--pgdata={self._cluster.data}",
            f"--log={self._cluster.log_path}",
            f"--timeout={_START_TIMEOUT_S}",
            f"--options={shlex.join(self._server_options())}",
            timeout_s=_PG_CTL_TIMEOUT_S,
        )
        return self._find_accepting()

    def _find_accepting(self) -> Postmaster | None:
        postmaster = find_postmaster(self._cluster.data)
        return postmaster if postmaster is not None and postmaster.accepts_connections else None

    def _shut_down(self, postmaster: Postmaster) -> None:
        """Stop the postmaster (PostgreSQL's main process) of this data directory, which another process started."""
        data = self._cluster.data
        has_ended = lambda: not is_postmaster_of(postmaster.pid, data)  # noqa: E731
        if not shut_down(partial(os.kill, postmaster.pid), has_ended):
            raise self._cluster.failure(
                f"the PostgreSQL in {self._cluster.directory} (pid {postmaster.pid}) does not stop"
            )

    def _server_options(self) -> list[str]:
        return ["-p", str(_free_port()), *(f"--{name}={value}" for name, value in self._settings.items())]

    @cached_property
    def _programs(self) -> Programs:
        """Find PostgreSQL's programs only at the first use, because attaching to a running server needs no program."""
        return load_programs(self._bindir)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
