"""The two servers as processes of their own: `rakuten serve` on the champion, and `mlflow models serve` on a folder."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
from bench_serving_client import Endpoint
from free_port import free_port
from listener_processes import RAKUTEN, login_variables
from waiting import eventually

from db.database import Database, Role
from listeners.training.text import TEXT_COLUMNS
from shared.config import environment_for

_DEADLINE_S = 120.0
_AT_REST_S = 0.5  # memory that is the same after this time no longer changes


@dataclass(frozen=True)
class Server:
    """A running server. `process` is the one that answers."""

    endpoint: Endpoint
    process: psutil.Process
    log: Path

    def rss_bytes(self) -> int:
        """The memory of the process when it no longer changes: after a swap, some of it goes back to the system."""
        readings = [self.process.memory_info().rss]

        def is_at_rest() -> bool:
            time.sleep(_AT_REST_S)
            readings.append(self.process.memory_info().rss)
            return readings[-1] == readings[-2]

        eventually(is_at_rest, _DEADLINE_S, report=lambda: f"the memory still changes: {readings[-5:]}")
        return readings[-1]

    def logged(self, event: str) -> list[datetime]:
        """When the server has logged an event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == event]


@contextmanager
def champion_server(database: Database, *, path: str = "/readyz") -> Iterator[Server]:
    """`rakuten serve`, when `path` answers."""
    port = free_port()
    settings = database.settings.model_copy(update={"serve_port": port, "log_format": "json"})
    variables = environment_for(settings) | login_variables(database.conninfo(Role.SERVER))
    endpoint = Endpoint(port, "/predict")
    with _running([str(RAKUTEN), "serve"], variables, endpoint, path, settings.state_path) as server:
        yield server


@contextmanager
def mlflow_server(database: Database, folder: Path) -> Iterator[Server]:
    """`mlflow models serve` with its defaults: one worker. It answers when `/ping` does."""
    port = free_port()
    mlflow = Path(sys.executable).with_name("mlflow")
    options = ["-m", str(folder), "--env-manager", "local", "--port", str(port)]
    variables = environment_for(database.settings)
    variables["PATH"] = f"{mlflow.parent}{os.pathsep}{variables['PATH']}"  # it calls uvicorn by name
    endpoint = Endpoint(port, "/invocations", TEXT_COLUMNS)
    command = [str(mlflow), "models", "serve", *options]
    with _running(command, variables, endpoint, "/ping", database.settings.state_path) as server:
        yield server


@contextmanager
def _running(
    command: list[str], variables: dict[str, str], endpoint: Endpoint, path: str, directory: Path
) -> Iterator[Server]:
    log = directory / f"server_{endpoint.port}.log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, env=variables, cwd=directory, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{endpoint.port}{path}", started, log)
        yield Server(endpoint, _listener_of(started.pid, endpoint.port), log)
    finally:
        os.killpg(started.pid, signal.SIGTERM)  # MLflow starts a shell, and the shell starts uvicorn
        started.wait(_DEADLINE_S)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    def answers() -> bool:
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310  our own address
            return True
        return False

    def require_running() -> None:
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended: {log.read_text()[-2000:]}")

    eventually(answers, _DEADLINE_S, report=log.read_text, check=require_running)


def _listener_of(pid: int, port: int) -> psutil.Process:
    """The process that listens on the port: the one that was started, or a descendant of it."""
    started = psutil.Process(pid)
    for process in [started, *started.children(recursive=True)]:
        if any(one.laddr.port == port for one in process.net_connections("tcp") if one.status == "LISTEN"):
            return process
    raise RuntimeError(f"no process listens on port {port}")
