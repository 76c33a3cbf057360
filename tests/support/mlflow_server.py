"""A real MLflow server in processes of its own, with sqlite and its artifacts in one directory."""

import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

from free_port import free_port
from waiting import eventually

START_S = 120


class MlflowServer:
    """Use as a context manager. It keeps its port and its data when it is killed and started again."""

    def __init__(self, directory: Path, *options: str, **environment: str):
        self._directory, self._options, self._environment = directory, options, environment
        self._process: subprocess.Popen | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_error):
        self.kill()

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers."""
        if self._process is not None:
            return
        mlflow = Path(sys.executable).with_name("mlflow")
        command = [mlflow, "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self._directory}/server.db"]
        artifacts = ["--serve-artifacts", "--artifacts-destination", str(self._directory / "artifacts")]
        self._directory.mkdir(parents=True, exist_ok=True)
        log_path = self._directory / "server.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *store, *artifacts, *self._options],
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={
                    "PATH": str(mlflow.parent),
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    **self._environment,
                },
                start_new_session=True,  # its workers are killed with it
            )
        try:
            self._wait_until_healthy(log_path)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the server and its workers with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _wait_until_healthy(self, log_path: Path) -> None:
        def log():
            return log_path.read_text()[-3000:]

        def is_healthy():
            assert self._process.poll() is None, log()
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):  # noqa: S310  our own server
                return True

        eventually(is_healthy, START_S, report=log)
