"""Run the whole pipeline on this machine: the embedded PostgreSQL, both listeners, the model server, and MLflow's pages.

The listeners, the server and MLflow are separate processes. Each ends when the pipe to its standard input is closed, so
also when the process that started it is killed.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from rich.console import Console

from db import batches
from db.database import embedded_server
from db.embedded.waiting import poll
from db.load.source_record import recorded_source
from listeners.monitoring.address import require_free_address
from rakuten.console import rakuten_command, shell_path
from rakuten.session import Session, open_session
from shared.config import Settings, environment_for
from shared.errors import PipelineError
from shared.events import Stage
from shared.file_lock import FileLockedError, file_lock
from shared.listening_socket import listening_socket

_POLL_INTERVAL_S: Final = 0.2
_STOP_TIMEOUT_S: Final = 60.0
_START_TIMEOUT_S: Final = 300.0  # on a slow machine, importing MLflow and scikit-learn takes minutes
_MLFLOW_PORT: Final = 5000  # MLflow's own default
EXAMPLE_PRODUCT: Final = {"designation": "Piscine gonflable ronde 3 m"}
# MLflow has no option that ends it with its parent. This shell ends it when the pipe from the parent closes.
_END_WITH_PARENT: Final = '"$@" < /dev/null & cat > /dev/null; kill $!; wait $!'


@dataclass(frozen=True)
class LocalSystem:
    """The running parts.

    Attributes:
        session: what a command needs to look at the batches.
        processes: the listeners and the model server, by the name of the log of each.
        server_url: the address of the model server, which answers some seconds after the start; None if it does not run.
        mlflow_url: the address of MLflow's pages, which are ready some seconds after the start; None if they are not served.
        metrics_urls: the addresses at which the listeners answer Prometheus; none unless METRICS_PORT is set.
    """

    session: Session
    processes: dict[str, "subprocess.Popen[bytes]"]
    server_url: str | None
    mlflow_url: str | None
    metrics_urls: tuple[str, ...] = ()

    def require_processes(self) -> None:
        """Raise a PipelineError if a process has ended. None of them ends by itself, so something is wrong."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise PipelineError(
                    f"the process {name} ended with exit code {process.returncode}",
                    remedy=f"see {self.session.settings.logs_path / f'{name}.log'}",
                )

    def pause(self) -> None:
        """Wait before the next look at the batches. Raise a PipelineError if a process has ended."""
        self.require_processes()
        time.sleep(_POLL_INTERVAL_S)


@contextmanager
def run_locally(
    command: str, settings: Settings, console: Console, *, model_server: bool, mlflow_pages: bool
) -> Iterator[LocalSystem]:
    """Start PostgreSQL, both listeners and, if asked for, the model server and MLflow's pages.

    They end in order after the `with` block.

    Raises:
        PipelineError: another process runs the pipeline in the same STATE_PATH, or a listener does not start.
    """
    with (
        _only_one(settings),
        _stopped_by_sigterm(),
        open_session(command, settings=settings, create=True) as session,
    ):
        settings.logs_path.mkdir(parents=True, exist_ok=True)
        program = str(Path(sys.executable).with_name("rakuten"))
        processes: dict[str, subprocess.Popen[bytes]] = {}
        server_url = mlflow_url = None
        try:
            of_stage = _listener_settings(settings)
            for stage, own_settings in of_stage.items():
                processes[stage] = _start(own_settings, stage, [program, "listen", stage, "--with-parent"])
            if model_server:
                with _free_socket(settings.serve_port) as listening:
                    server_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                    serve = [program, "serve", "--listening-fd", str(listening.fileno())]
                    processes["serve"] = _start(settings, "serve", serve, keep=[listening.fileno()])
            own = dict(processes)
            if mlflow_pages:
                with _free_socket(_MLFLOW_PORT) as probe:
                    port = probe.getsockname()[1]
                mlflow_url = f"http://127.0.0.1:{port}"
                watched = ["sh", "-c", _END_WITH_PARENT, "sh", *_mlflow(settings, port)]
                processes["mlflow"] = _start(settings, "mlflow", watched)
            system = LocalSystem(session, own, server_url, mlflow_url, _metrics_urls(of_stage.values()))
            with console.status("starting two listeners: importing MLflow and scikit-learn takes a while"):
                if not poll(lambda: _all_listen(system), timeout_s=_START_TIMEOUT_S):
                    raise PipelineError(
                        f"the listeners do not connect to PostgreSQL within {_START_TIMEOUT_S:.0f} s",
                        remedy=f"see their logs in {settings.logs_path}",
                    )
            yield system
        finally:
            _end(list(processes.values()))


def recorded_files(settings: Settings) -> dict[str, str] | None:
    """Return the SHA-256 of each source file of the first load, by the file's name, or None before the first load."""
    if not settings.postgres_path.exists():
        return None
    with open_session("source files", settings=settings) as session:
        recorded = recorded_source(session.connection)
    return recorded["files"] if recorded else None


def where_to_look(
    settings: Settings,
    *,
    is_running: bool,
    mlflow_url: str | None = None,
    server_url: str | None = None,
    metrics_urls: Collection[str] = (),
) -> list[str]:
    """Return the lines that name the places where a user sees what the pipeline has done."""
    rakuten = rakuten_command(settings)
    psql = "psql" if shutil.which("psql") else shell_path(Path(embedded_server(settings).program("psql")))
    mlflow = (mlflow_url and f"{mlflow_url} (choose Model training at the top left)") or (
        f"{shell_path(Path(sys.executable).with_name('mlflow'))} ui --backend-store-uri {quote(settings.tracking_uri)}"
    )
    return [
        f'  psql      {"" if is_running else f"{rakuten} db start && "}{psql} "$({rakuten} db url)"',
        "              select * from pipeline_status;",
        "              select * from products_as_of_batch(1) limit 5;",
        f"  MLflow    {mlflow}",
        *([] if server_url is None else [f"  predict   {_predict_command(settings, server_url)}"]),
        *([f"  metrics   {', '.join(metrics_urls)}"] if metrics_urls else []),
        f"  datasets  {_datasets(settings)}",
        f"  logs      {shell_path(settings.logs_path)}",
        f"  status    {rakuten} status",
    ]


def _datasets(settings: Settings) -> str:
    """Return the folder in which the engine keeps the datasets."""
    return settings.dataset_store_uri if settings.engine == "spark" else shell_path(settings.snapshots_path)


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Let only one process at a time run the pipeline in this STATE_PATH."""
    settings.state_path.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(settings.state_path / "running.lock", timeout_s=0.0):
            yield
    except FileLockedError as error:
        raise PipelineError(
            f"{error.holder} already runs the pipeline in {settings.state_path}",
            remedy=f"see what it does: {rakuten_command(settings)} status; or set STATE_PATH to another folder",
        ) from error


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process in the same order as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(
    settings: Settings, name: str, command: list[str], keep: Collection[int] = ()
) -> "subprocess.Popen[bytes]":
    """Start a process with these settings and a log of its own. It keeps the descriptors in `keep`."""
    with (settings.logs_path / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment_for(settings) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=settings.state_path,
            pass_fds=keep,
            start_new_session=True,  # Ctrl-C reaches only the parent, which ends its children in order
        )


def _end(processes: list["subprocess.Popen[bytes]"]) -> None:
    """Close the pipes to the processes, so that they end, and wait for them."""
    for process in processes:
        assert process.stdin is not None  # noqa: S101  each was started with a pipe
        process.stdin.close()
    for process in processes:
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _mlflow(settings: Settings, port: int) -> list[str]:
    program = str(Path(sys.executable).with_name("mlflow"))
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [program, "server", "--backend-store-uri", settings.tracking_uri, *address]


def _listener_settings(settings: Settings) -> dict[Stage, Settings]:
    """Return the settings of each listener. If METRICS_PORT is set, the second listener gets the next port.

    Raises:
        PipelineError: one of the ports is in use.
    """
    if settings.metrics_port is None:
        return dict.fromkeys(Stage, settings)
    ports = dict(zip(Stage, range(settings.metrics_port, settings.metrics_port + len(Stage)), strict=True))
    of_stage = {stage: settings.model_copy(update={"metrics_port": port}) for stage, port in ports.items()}
    for of_listener in of_stage.values():
        require_free_address(of_listener)
    return of_stage


def _metrics_urls(of_listeners: Iterable[Settings]) -> tuple[str, ...]:
    return tuple(
        f"http://{_in_url(settings.metrics_host)}:{settings.metrics_port}/metrics"
        for settings in of_listeners
        if settings.metrics_port is not None
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _all_listen(system: LocalSystem) -> bool:
    system.require_processes()
    return batches.listening_stages(system.session.connection) >= set(Stage)


def _predict_command(settings: Settings, server_url: str) -> str:
    """Return the command that asks the model server for the class of a product."""
    token = "" if settings.serve_token is None else ' --header "Authorization: Bearer $SERVE_TOKEN"'
    return f"curl {server_url}/predict{token} --data {quote(json.dumps(EXAMPLE_PRODUCT, ensure_ascii=False))}"


def _free_socket(wanted: int) -> socket.socket:
    """Return a socket that listens on the wanted port if it is free, otherwise on any free port."""
    with suppress(PipelineError):
        return listening_socket("127.0.0.1", wanted)
    return listening_socket("127.0.0.1", 0)
