"""The stack of docker-compose.yml as a project of its own: its own volumes, its own secrets, free ports."""

import base64
import functools
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg.rows import dict_row
from repository import ROOT
from waiting import eventually

from rakuten import env_file

DEADLINE_S = 300
# Each service, with the secrets that it gets.
SECRETS_OF = {
    "postgres": {
        "POSTGRES_SUPERUSER_PASSWORD",
        "RAKUTEN_OWNER_PASSWORD",
        "RAKUTEN_LOADER_PASSWORD",
        "RAKUTEN_SNAPSHOT_PASSWORD",
        "RAKUTEN_TRAINING_PASSWORD",
        "RAKUTEN_SERVER_PASSWORD",
        "RAKUTEN_READER_PASSWORD",
        "MLFLOW_DB_PASSWORD",
        "AIRFLOW_DB_PASSWORD",
    },
    "db-upgrade": {"RAKUTEN_OWNER_PASSWORD"},
    "mlflow": {"MLFLOW_DB_PASSWORD"},
    "snapshot-listener": {"RAKUTEN_SNAPSHOT_PASSWORD", "SPARK_SECRET"},
    "training-listener": {"RAKUTEN_TRAINING_PASSWORD", "SPARK_SECRET"},
    "model-server": {"RAKUTEN_SERVER_PASSWORD", "MODEL_SERVER_TOKEN"},
    "airflow-init": {"AIRFLOW_DB_PASSWORD", "AIRFLOW_FERNET_KEY"},
    "airflow-dag-processor": {"AIRFLOW_DB_PASSWORD", "AIRFLOW_FERNET_KEY"},
    "airflow-scheduler": {
        "AIRFLOW_DB_PASSWORD",
        "AIRFLOW_FERNET_KEY",
        "AIRFLOW_API_SECRET",
        "AIRFLOW_JWT_SECRET",
        "RAKUTEN_LOADER_PASSWORD",
    },
    "airflow-api-server": {
        "AIRFLOW_DB_PASSWORD",
        "AIRFLOW_FERNET_KEY",
        "AIRFLOW_API_SECRET",
        "AIRFLOW_JWT_SECRET",
        "AIRFLOW_ADMIN_PASSWORD",
    },
    "prometheus": {"MODEL_SERVER_TOKEN"},
    "alertmanager": set(),
    "grafana": {"GRAFANA_ADMIN_PASSWORD"},
    "spark-master": {"SPARK_SECRET"},
    "spark-worker": {"SPARK_SECRET"},
}
PUBLISHED = ("POSTGRES", "MLFLOW", "AIRFLOW", "SERVE", "GRAFANA", "PROMETHEUS", "ALERTMANAGER", "SPARK")
# The services that run only if somebody asks for their profile.
PROFILES = {
    "monitoring": {"prometheus", "alertmanager", "grafana"},
    "spark": {"spark-master", "spark-worker"},
}
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def is_asked_for(profile: str) -> bool:
    """Return whether the environment asks for the services of a profile, as `docker compose` reads it."""
    return profile in os.environ.get("COMPOSE_PROFILES", "").split(",")  # noqa: TID251


@functools.cache
def why_not() -> str | None:
    """Why there can be no stack here; None where a Docker engine answers."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            return f"{' '.join(command)} does not answer"
        if done.returncode:
            return f"{' '.join(command)}: {(done.stderr.strip() or 'failed').splitlines()[0]}"
    return None


class Stack:
    def __init__(self, directory: Path, data: Path, **settings: object):
        self.project = f"rakuten-test-{os.getpid()}"
        self._env_file = directory / "env"
        env_file.write(self._env_file, ROOT / ".env.example")
        lines = self._env_file.read_text()
        self.secrets = dict(re.findall(r"^([A-Z_]+)=(.+)$", lines, re.MULTILINE))
        ports = {f"{name}_PUBLISHED_PORT": 0 for name in PUBLISHED}  # any free one
        chosen = {"DATA_PATH": data, "TAG": "test", **ports, **settings}
        self._env_file.write_text(lines + "".join(f'{name}="{value}"\n' for name, value in chosen.items()))
        # a variable of the developer's shell would win over the file
        known = re.findall(r"^#?([A-Z_]+)=", lines, re.MULTILINE)
        self._environment = {name: value for name, value in os.environ.items() if name not in known}  # noqa: TID251
        self._token = None

    def compose(self, *arguments, timeout_s=DEADLINE_S, check=True) -> str:
        command = [
            "docker",
            "compose",
            "--env-file",
            self._env_file,
            "--project-name",
            self.project,
            *arguments,
        ]
        return self._run(command, ROOT, self._environment, timeout_s=timeout_s, check=check)

    def shell(self, commands: str, directory: Path) -> str:
        """Run commands as a page of the documentation has them, in another folder than the repository's."""
        environment = self._environment | {
            "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_ENV_FILES": str(self._env_file),
        }
        return self._run(["sh", "-e", "-c", commands], directory, environment)

    def _run(self, command, directory: Path, environment, *, timeout_s=DEADLINE_S, check=True) -> str:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not (check and done.returncode), f"{command}: {done.stderr[-3000:]}\n{self.tails()}"
        return done.stdout

    def docker(self, *arguments) -> str:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout  # noqa: S607

    def up(self) -> None:
        self.compose("up", "--detach", "--wait", "--wait-timeout", str(DEADLINE_S), timeout_s=DEADLINE_S + 60)

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "5", check=False)

    def tails(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "15", check=False)[-8000:]

    def services(self) -> dict[str, dict]:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {service["Service"]: service for service in map(json.loads, lines)}

    def memory_bytes(self) -> dict[str, float]:
        names = [service["Name"] for service in self.services().values() if service["State"] == "running"]
        used = {}
        for line in self.docker("stats", "--no-stream", "--format", "{{json .}}", *names).splitlines():
            stats = json.loads(line)
            number, unit = re.match(r"([\d.]+)(\w+)", stats["MemUsage"]).groups()
            used[stats["Name"]] = float(number) * _UNITS[unit]
        return used

    def environment_of(self, service: str) -> dict[str, str]:
        [container] = json.loads(self.docker("inspect", self.services()[service]["Name"]))
        return dict(line.split("=", 1) for line in container["Config"]["Env"])

    def lines(self, *services: str) -> list[str]:
        return self.compose("logs", "--no-color", "--no-log-prefix", *services).splitlines()

    def address(self, service: str, port: int) -> str:
        return self.compose("port", service, str(port)).strip()

    @property
    def mlflow(self) -> str:
        return f"http://{self.address('mlflow', 5000)}"

    @property
    def airflow(self) -> str:
        return f"http://{self.address('airflow-api-server', 8080)}"

    def get_json(self, service: str, port: int, path: str, login: tuple[str, str] | None = None) -> dict:
        """Return what a service answers, with a user's name and password if `login` is given."""
        request = urllib.request.Request(f"http://{self.address(service, port)}{path}")
        if login is not None:
            request.add_header(
                "authorization", f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"
            )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def predict(self, title: str, *, token: str | None = None) -> dict:
        """Return the model server's answer about a product."""
        request = urllib.request.Request(
            f"http://{self.address('model-server', 8000)}/predict",
            data=json.dumps({"designation": title}).encode(),
            headers={"authorization": f"Bearer {token or self.secrets['MODEL_SERVER_TOKEN']}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def query(self, statement: str, *parameters: object) -> list[dict]:
        host, port = self.address("postgres", 5432).split(":")
        with psycopg.connect(
            host=host,
            port=port,
            user="rakuten_reader",
            password=self.secrets["RAKUTEN_READER_PASSWORD"],
            dbname="rakuten_db",
            row_factory=dict_row,
        ) as connection:
            return connection.execute(statement, parameters).fetchall()

    def status(self) -> dict[str, dict]:
        return {row["batch_name"]: row for row in self.query("select * from pipeline_status")}

    def api(self, method: str, path: str, body: object = None, *, token: bool = True) -> dict:
        if token and self._token is None:
            login = {"username": "admin", "password": self.secrets["AIRFLOW_ADMIN_PASSWORD"]}
            self._token = self.api("POST", "/auth/token", login, token=False)["access_token"]
        request = urllib.request.Request(  # noqa: S310
            self.airflow + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"}
            | ({"authorization": f"Bearer {self._token}"} if token else {}),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def trigger(self, dag_id: str) -> str:
        run = self.api("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})
        return f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}"

    def ended(self, run: str) -> str:
        """The state in which a DAG run ended; the API server itself may be away for a while."""

        def state():
            try:
                found = self.api("GET", run)["state"]
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return None
            return found if found in {"success", "failed"} else None

        return self.wait(state)

    def wait(self, condition, deadline_s=DEADLINE_S):
        """The condition's first true value; a server that is away makes it no worse than false."""

        def holds():
            with suppress(psycopg.OperationalError, OSError):
                return condition()

        return eventually(holds, deadline_s, report=self.tails)
