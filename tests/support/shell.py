"""The command line as a person or a program calls it, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import psycopg

from shared.config import environment_for, read_settings

RAKUTEN = Path(sys.executable).with_name("rakuten")


class Shell:
    """Runs commands with a state folder and a data folder of its own."""

    def __init__(self, state: Path, data: Path):
        # MLflow leaves its address in the environment of a process that has used it
        elsewhere = {"postgres_host": None, "mlflow_tracking_uri": None}
        settings = read_settings(state_path=state, data_path=data, _env_file=None, **elsewhere)
        self.environment = environment_for(settings)
        self.state, self.data = state, data

    def __call__(self, *arguments, data: Path | None = None):
        environment = self.environment | ({"DATA_PATH": str(data)} if data else {})
        return subprocess.run(
            [RAKUTEN, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment,
            cwd=self.state.parent,
        )

    def rows(self, statement):
        url = self("db", "url").stdout.strip()
        with psycopg.connect(url) as connection:
            return connection.execute(statement).fetchall()
