"""`rakuten up` as a person uses it: one terminal shows what happens, another one loads a week."""

import os
import signal
import socket
import subprocess
import urllib.request
from contextlib import ExitStack, suppress

import pytest
from scrape import scrape
from shell import RAKUTEN, Shell
from waiting import eventually

from db.source.synthetic import generate
from rakuten.commands.up import _settings_for
from shared.config import read_settings

DEADLINE_S = 240


@pytest.fixture
def shell(tmp_path):
    state = tmp_path / "state"
    generate(state / "generated-300", 300)
    return Shell(state, tmp_path / "nothing")


@pytest.fixture
def metrics_port():
    """A free port after which the next one is free, too."""

    def are_free(port):
        with suppress(OSError), ExitStack() as stack:
            return all(
                stack.enter_context(socket.create_server(("127.0.0.1", each))) for each in (port, port + 1)
            )

    return next(filter(are_free, range(20_000, 30_000, 2)))


@pytest.fixture
def running(shell, tmp_path, metrics_port):
    """The process, and what it has printed so far."""
    said = tmp_path / "said"
    environment = shell.environment | {"METRICS_PORT": str(metrics_port)}
    with said.open("w") as output:
        process = subprocess.Popen([RAKUTEN, "up"], env=environment, stdout=output, stderr=output)
    try:
        eventually(lambda: "next week" in said.read_text(), DEADLINE_S, report=said.read_text)
        yield process, said.read_text
    finally:
        process.kill()
        process.wait()


def serves_mlflow(said):
    address = next(line.split()[1] for line in said().splitlines() if line.startswith("  MLflow"))
    with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5) as answer:  # noqa: S310  our own server
        return answer.status == 200


def ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_week_that_another_terminal_loads_becomes_a_dataset_and_a_model(shell, running, metrics_port):
    process, said = running
    for stage, port in (("snapshot", metrics_port), ("training", metrics_port + 1)):
        assert f"http://127.0.0.1:{port}/metrics" in said()
        assert scrape(port)["rakuten_database_up", ("stage", stage)] == 1
    loaded = shell("load", data=shell.state / "generated-300")
    assert loaded.returncode == 0, loaded.stderr
    eventually(lambda: "week_1: the model has F1" in said(), DEADLINE_S, report=said)
    assert "week_1: the dataset has" in said()
    eventually(lambda: serves_mlflow(said), DEADLINE_S, report=said)

    second = shell("up")
    assert second.returncode == 1
    assert f"process {process.pid} on " in second.stderr
    assert "already runs the pipeline in" in second.stderr
    assert "week" in shell("status").stdout
    quiet = shell("retry")
    assert "listener runs" not in loaded.stderr + quiet.stderr

    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    assert "Stopped." in said()
    assert "Traceback" not in said()
    assert not (shell.state / "postgres" / "data" / "postmaster.pid").exists()


def test_a_port_for_metrics_that_is_in_use_is_named_before_anything_is_started(shell, metrics_port):
    shell.environment["METRICS_PORT"] = str(metrics_port)
    with socket.create_server(("127.0.0.1", metrics_port + 1)):
        refused = shell("up")
    assert refused.returncode == 1
    assert f"cannot answer /metrics on 127.0.0.1, port {metrics_port + 1}" in refused.stderr
    assert "set METRICS_PORT to a free port" in refused.stderr


def test_nothing_of_it_goes_on_when_it_is_killed(shell, running):
    process, _ = running
    listed = subprocess.run(["pgrep", "--parent", str(process.pid)], capture_output=True, check=True)  # noqa: S607
    children = list(map(int, listed.stdout.split()))
    assert len(children) >= 3
    process.kill()
    process.wait()
    eventually(lambda: all(map(ended, children)), 90)


def test_the_files_of_the_first_load_are_asked_for_and_accepted(shell, tmp_path):
    others = tmp_path / "others"
    (shell.state / "generated-300").rename(tmp_path / "files")
    generate(others, 400)
    loaded = shell("load", data=tmp_path / "files")
    assert (
        "no snapshot and no training listener runs: the batch waits until you start it (rakuten up)"
        in loaded.stderr
    )
    refused = shell("up", "--data", others)
    assert (refused.returncode, "rakuten up --data FOLDER" in refused.stderr) == (2, True)
    assert _settings_for(
        read_settings(state_path=shell.state, _env_file=None), tmp_path / "files"
    ).data_path == (tmp_path / "files")
