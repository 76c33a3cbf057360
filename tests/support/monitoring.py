"""A real Prometheus that reads real listeners and a real model server, with the configuration of docs/monitoring/."""

import json
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml
from listener_processes import RAKUTEN, Listeners
from repository import ROOT
from server_process import ModelServer
from waiting import eventually

from shared.events import Stage

MONITORING = ROOT / "docs/monitoring"
DEADLINE_S = 120
TOKEN = "a token of the model server"  # noqa: S105
_NAMES = {
    "snapshot-listener:9100": "snapshot",
    "training-listener:9100": "training",
    "model-server:8000": "server",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Monitored:
    """The two listeners and the model server of one database, each with its page of metrics. Use as a context manager."""

    def __init__(self, database, settings):
        own = {"serve_token": TOKEN, "poll_interval_s": 1.0}
        self.settings = type(settings)(**settings.model_dump() | own, _env_file=None)
        self.listeners = Listeners(database, self.settings)
        self.server = ModelServer(database, self.settings)
        self.ports = {"snapshot": free_port(), "training": free_port(), "server": self.server.port}

    def __enter__(self):
        for stage in Stage:
            self.start_listener(stage)
        self.listeners.wait(lambda: set(self.listeners._listening()) >= set(Stage))
        self._server_process = self.server.start()
        return self

    def __exit__(self, *_error):
        self.listeners.kill()
        self._server_process.kill()
        self._server_process.wait()

    def start_listener(self, stage: Stage) -> None:
        self.listeners.processes[stage] = self.listeners.run(
            stage, [RAKUTEN, "listen", stage], METRICS_PORT=str(self.ports[stage])
        )

    def predict(self, body: str) -> int:
        """Send a request to the model server, and return the code of the answer; 0 if there is none."""
        answer = self.server.ask("POST", "/predict", body, token=TOKEN)
        return 0 if answer is None else answer[0]


class Prometheus:
    """Debian's Prometheus, which reads `ports` (by snapshot, training, server) every second. Use as a context manager."""

    def __init__(self, directory: Path, ports: dict[str, int]):
        self._directory, self._port = directory, free_port()
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(MONITORING / "alerts.yml", directory)
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        del config["alerting"]
        for job in config["scrape_configs"]:
            for group in job["static_configs"]:
                group["targets"] = [f"127.0.0.1:{ports[_NAMES[target]]}" for target in group["targets"]]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        (directory / "model_server_token").write_text(TOKEN)

    def __enter__(self):
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    shutil.which("prometheus"),
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._directory / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        eventually(self._is_ready, DEADLINE_S, report=self.log)
        return self

    def __exit__(self, *_error):
        self._process.terminate()
        self._process.wait(30)

    def log(self) -> str:
        return (self._directory / "prometheus.log").read_text()[-3000:]

    def query(self, expression: str) -> list[dict]:
        """Return the result of an instant query: a list of {metric: labels, value: [time, text]}.

        Raises:
            AssertionError: Prometheus rejects the query.
        """
        try:
            with urlopen(
                f"http://127.0.0.1:{self._port}/api/v1/query?{urlencode({'query': expression})}", timeout=30
            ) as answer:
                return json.load(answer)["data"]["result"]
        except HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error

    def _is_ready(self) -> bool:
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as answer:
            return answer.status == 200
        return False
