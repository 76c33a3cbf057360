"""Real listeners and a real model server of one database, which answer /metrics."""

import socket

from listener_processes import RAKUTEN, Listeners
from server_process import ModelServer

from shared.config import Settings
from shared.events import Stage

TOKEN = "a token of the model server"  # noqa: S105


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Monitored:
    """The two listeners and the model server of one database, each with its page of metrics. Use as a context manager."""

    def __init__(self, database, settings):
        own = {"serve_token": TOKEN, "poll_interval_s": 1.0}
        self.settings = Settings(**settings.model_dump() | own, _env_file=None)
        self.listeners = Listeners(database, self.settings)
        self.server = ModelServer(database, self.settings)
        self.ports = {stage: free_port() for stage in Stage}

    def __enter__(self):
        for stage, port in self.ports.items():
            command = [RAKUTEN, "listen", stage]
            self.listeners.processes[stage] = self.listeners.run(stage, command, METRICS_PORT=str(port))
        self.listeners.wait(lambda: self.listeners._listening() >= set(Stage))
        self._server_process = self.server.start()
        return self

    def __exit__(self, *_error):
        self.listeners.kill()
        self._server_process.kill()
        self._server_process.wait()

    @property
    def addresses(self) -> tuple[list[str], list[str]]:
        """Host and port of each listener, and of each model server."""
        return [f"127.0.0.1:{port}" for port in self.ports.values()], [f"127.0.0.1:{self.server.port}"]

    def predict(self, body: str) -> int:
        """Send a request to the model server, and return the code of the answer; 0 if there is none."""
        answer = self.server.ask("POST", "/predict", body, token=TOKEN)
        return 0 if answer is None else answer[0]
