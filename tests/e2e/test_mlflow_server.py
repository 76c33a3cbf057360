"""The chain through a real MLflow server: it refuses what a client's own sqlite store lets pass."""

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from listener_processes import Listeners

from listeners.mlflow_runs import Tracking

START_S = 120


@pytest.fixture
def mlflow_server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    options = ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    artifacts = ["--serve-artifacts", "--artifacts-destination", str(tmp_path / "artifacts")]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options, *artifacts],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env={"PATH": str(command[0].parent), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/health", process, tmp_path / "server.log")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def wait_for(url, process, log):
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own server
                return
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)


def test_a_week_becomes_a_registered_champion(mlflow_server, database, settings, load_weeks, tmp_path):
    settings = settings.model_copy(update={"mlflow_tracking_uri": mlflow_server})
    listeners = Listeners(database, settings)
    try:
        listeners.start()
        load_weeks(1)
        listeners.wait_for_models(1)
        assert listeners.stop() == [0, 0]
    finally:
        listeners.kill()
    tracking = Tracking(settings)
    [row] = listeners.status()
    assert row["became_champion"] is True
    champion = mlflow.pyfunc.load_model("models:/rakuten_classifier@champion")
    products = pd.DataFrame({"designation": ["piscine gonflable", None], "description": [None, "roman"]})
    assert len(champion.predict(products)) == 2
    run = tracking.client.get_run(row["model_run_id"])
    assert "promotion.json" in {artifact.path for artifact in tracking.client.list_artifacts(run.info.run_id)}
