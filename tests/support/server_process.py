"""The model server as a process of its own."""

import json
import subprocess
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException

from free_port import free_port
from listener_processes import RAKUTEN, login_variables

from db.database import Database, Role
from shared.config import Settings, environment_for

ANSWER_DEADLINE_S = 5.0  # after which a client hangs up


class ModelServer:
    """`rakuten serve` on a free port. It reaches PostgreSQL and MLflow as the settings and the database say."""

    def __init__(self, database: Database, settings: Settings):
        self.port = free_port()
        self._database = database
        self._settings = settings.model_copy(update={"serve_port": self.port})
        self.log = settings.state_path / "model_server.log"
        self.log.touch()

    def start(self) -> subprocess.Popen:
        login = login_variables(self._database.conninfo(Role.SERVER))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [RAKUTEN, "serve"],
                env=environment_for(self._settings) | login,
                stdout=log,
                stderr=log,
                cwd=self._settings.state_path,
            )

    def is_up(self) -> bool:
        return self.ask("GET", "/healthz") is not None

    def model(self) -> dict | None:
        """What the server says about its model; None if it has none, or does not answer."""
        answer = self.ask("GET", "/model")
        return json.loads(answer[1]) if answer is not None and answer[0] == 200 else None

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes] | None:
        """The status and the body of an answer; None if there is no whole answer within the deadline."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_DEADLINE_S)
        with closing(connection), suppress(OSError, HTTPException):
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        return None
