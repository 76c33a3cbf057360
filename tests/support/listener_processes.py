"""The two listeners of one database as processes of their own, as containers would run them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
from waiting import eventually

from db import batches
from db.connect import connect
from db.database import Role
from shared.config import environment_for
from shared.events import Stage

DEADLINE_S = 240
LOGIN = {"HOST": "host", "PORT": "port", "DB": "dbname", "USER": "user", "PASSWORD": "password"}
RAKUTEN = Path(sys.executable).with_name("rakuten")


def login_variables(conninfo: str) -> dict[str, str]:
    """The environment variables with which a command logs in as a connection string does."""
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    return {f"POSTGRES_{name}": str(parts[key]) for name, key in LOGIN.items()}


class Listeners:
    def __init__(self, database, settings):
        self.database, self.settings = database, settings
        self.logs = {stage: settings.state_path / f"{stage}.log" for stage in Stage}
        self.processes = {}
        settings.state_path.mkdir(parents=True, exist_ok=True)

    def start(self, *stages: Stage):
        for stage in stages or Stage:
            self.processes[stage] = self.run(stage, [RAKUTEN, "listen", stage])
        self.wait(lambda: self._listening() >= set(self.processes))

    def run(self, stage: Stage, command, **variables: str) -> subprocess.Popen:
        """A process with the settings and the login of a stage's listener, and its log."""
        login = login_variables(self.database.conninfo(Role[stage.upper()]))
        with self.logs[stage].open("ab") as log:
            return subprocess.Popen(
                list(map(str, command)),
                env=environment_for(self.settings) | login | variables,
                stdout=log,
                stderr=log,
                cwd=self.settings.state_path,
            )

    def stop(self) -> list[int]:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in self.processes.values()]
        self.processes.clear()
        return codes

    def events(self, stage: Stage) -> list[dict]:
        lines = self.logs[stage].read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait(self, condition):
        def all_run():
            for stage, process in self.processes.items():
                assert process.poll() is None, self.logs[stage].read_text()

        def tails():
            return [log.read_text()[-2000:] for log in self.logs.values()]

        eventually(condition, DEADLINE_S, check=all_run, report=tails)

    def wait_for_models(self, count: int):
        self.wait(lambda: sum(row["training_state"] == "finished" for row in self.status()) >= count)

    def status(self):
        with connect(self.database.conninfo(Role.READER), "test") as connection:
            return batches.pipeline_status(connection)

    def _listening(self):
        with connect(self.database.conninfo(Role.READER), "test") as connection:
            return batches.listening_stages(connection)

    def kill(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()
