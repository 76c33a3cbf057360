"""A download that fails is an outage if MLflow, or what stands before it, is unavailable."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow_server import MlflowServer

from listeners.outages import outage_of
from listeners.tracking import artifacts
from listeners.tracking.runs import Tracking
from shared.errors import StageError
from shared.mlflow_names import MODEL_EXPERIMENT

FILES = "/mlflow-artifacts/artifacts/"  # a list of files has another path


@contextmanager
def relay(upstream: str):
    """An HTTP server that passes GET requests on. While `broken` is set, it closes the connection of each request for a file."""
    broken = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if broken.is_set() and FILES in self.path:
                self.close_connection = True
                return
            answer = requests.get(upstream + self.path, timeout=30)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_arguments):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", broken
        server.shutdown()
        thread.join()


@pytest.fixture
def behind_a_relay(settings, tmp_path, monkeypatch):
    """A run with a file and a logged model with a file; returns their tracking through the relay, and its switch."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with MlflowServer(tmp_path / "server") as server, relay(server.url) as (url, broken):
        direct = Tracking(settings.model_copy(update={"mlflow_tracking_uri": server.url})).client
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "weights").write_text("0.5")
        experiment = direct.create_experiment(MODEL_EXPERIMENT)
        run = direct.create_run(experiment)
        direct.log_artifact(run.info.run_id, str(tmp_path / "model" / "weights"))
        model = direct.create_logged_model(experiment)
        direct.log_model_artifacts(model.model_id, str(tmp_path / "model"))
        tracking = Tracking(settings.model_copy(update={"mlflow_tracking_uri": url}))
        yield tracking, tracking.client.get_run(run.info.run_id), model.model_uri, broken


def test_a_file_that_cannot_be_fetched_now_is_an_outage(behind_a_relay, tmp_path):
    tracking, run, model_uri, broken = behind_a_relay
    broken.set()
    with pytest.raises(StageError) as of_run:
        tracking.download(run, "weights", tmp_path / "run")
    with pytest.raises(MlflowException) as of_model:
        artifacts.download(model_uri, "", tmp_path / "downloaded", tracking.uri)
    assert [outage_of(raised.value) is not None for raised in (of_run, of_model)] == [True, True]
    broken.clear()
    assert tracking.download(run, "weights", tmp_path / "run").read_text() == "0.5"
    downloaded = artifacts.download(model_uri, "", tmp_path / "downloaded", tracking.uri)
    assert (downloaded / "weights").read_text() == "0.5"


def test_a_file_that_is_not_there_is_no_outage(behind_a_relay, tmp_path):
    tracking, run, _, _ = behind_a_relay
    with pytest.raises(StageError) as raised:
        tracking.download(run, "nothing", tmp_path / "run")
    assert outage_of(raised.value) is None
