"""docs/how-to/own-postgresql.md, word by word: a database, a schema, a login for each step, two listeners and a load."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from listener_processes import login_variables
from mlflow_server import MlflowServer
from psycopg import sql
from psycopg.conninfo import make_conninfo
from repository import ROOT
from run_pages import command_blocks
from waiting import eventually

from db.batches import listening_stages, pipeline_status
from db.connect import connect
from db.database import Role
from shared.config import environment_for

DEADLINE_S = 240
NAME = "of_their_own"


@pytest.fixture
def administrator(server):
    """A login that owns an empty database and may create roles. Its password is the superuser's, as everybody's here."""
    with psycopg.connect(server.conninfo(), autocommit=True) as superuser:
        superuser.execute(
            sql.SQL("create role {} login createrole password {}").format(
                sql.Identifier(NAME), sql.Literal(server.password)
            )
        )
        superuser.execute(f"create database {NAME} owner {NAME} encoding 'UTF8' template template0")
        yield
        superuser.execute(f"drop database {NAME} with (force)")
        superuser.execute(f"drop owned by {NAME} cascade")
        superuser.execute(f"drop role {NAME}")


@pytest.fixture
def run_as(server, administrator, settings, tmp_path):
    """Start a command of the page as a login would, with MLflow on a server of its own."""
    started = []
    with MlflowServer(tmp_path / "mlflow") as mlflow:

        def run(login: str, command: str) -> subprocess.Popen:
            environment = {
                **environment_for(settings),
                **login_variables(make_conninfo(server.conninfo(NAME), user=login)),
                "MLFLOW_TRACKING_URI": mlflow.url,
                "PATH": str(Path(sys.executable).parent),
            }
            with (tmp_path / f"{len(started)}.log").open("ab") as log:
                started.append(
                    subprocess.Popen(command.split(), env=environment, stdout=log, stderr=log, cwd=tmp_path)
                )
            return started[-1]

        yield run
        for process in started:
            process.kill()
            process.wait()


def test_each_command_of_the_page(run_as, server, tmp_path):
    blocks = command_blocks(ROOT / "docs/how-to/own-postgresql.md")
    upgrade, *listen, load = [command for block in blocks for command in block.splitlines()]
    assert run_as(NAME, upgrade).wait(DEADLINE_S) == 0, (tmp_path / "0.log").read_text()
    listeners = [
        run_as(role, command) for role, command in zip((Role.SNAPSHOT, Role.TRAINING), listen, strict=True)
    ]
    conninfo = server.conninfo(NAME)

    def logs() -> str:
        assert all(listener.poll() is None for listener in listeners)
        return "".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))

    with connect(conninfo, "test", autocommit=True) as connection:
        eventually(lambda: len(listening_stages(connection)) == 2, DEADLINE_S, report=logs)
        assert run_as(Role.LOADER, load).wait(DEADLINE_S) == 0, logs()
        eventually(
            lambda: [row["training_state"] for row in pipeline_status(connection)] == ["finished"],
            DEADLINE_S,
            report=logs,
        )
