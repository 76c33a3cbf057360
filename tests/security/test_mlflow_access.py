"""MLflow behind TLS and passwords, turned on as SECURITY.md says: the pipeline logs in, and nobody else gets in."""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from certificates import Authority
from free_port import free_port
from jobs import made_up_job

from db.embedded.waiting import poll
from listeners import child
from listeners.tracking.runs import Tracking
from shared.config import read_settings
from shared.mlflow_names import DATASET_EXPERIMENT

START_S = 120
PASSWORDS = {login: f"the password of {login}" for login in ("admin", "pipeline", "outsider")}
# what SECURITY.md tells to put there: nobody may do anything unless told so
CONFIGURATION = """
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{directory}/users.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class Server:
    """An MLflow server and the authority that vouches for it."""

    url: str
    authority: Authority

    def status_of(self, path: str, login: str | None = None, **body: str) -> int:
        """What a request is answered: a GET, or the POST of a body, by a user or by a stranger."""
        request = urllib.request.Request(  # noqa: S310
            self.url + path,
            data=json.dumps(body).encode() if body else None,
            headers={"content-type": "application/json"},
        )
        if login is not None:
            credentials = base64.b64encode(f"{login}:{PASSWORDS[login]}".encode()).decode()
            request.add_header("authorization", f"Basic {credentials}")
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


@contextmanager
def started(directory: Path, *options: str, **environment: str):
    authority = Authority(directory, "authority")
    certificate, key = authority.issue("127.0.0.1")
    port = free_port()
    program = Path(sys.executable).with_name("mlflow")
    listening = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{directory}/server.db",
        "--artifacts-destination",
        str(directory / "artifacts"),
    ]
    tls = ["--uvicorn-opts", f"--ssl-certfile {certificate} --ssl-keyfile {key}"]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "server", *listening, *stores, *tls, *options],
            stdout=log,
            stderr=log,
            cwd=directory,
            env={"PATH": str(program.parent), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment},
            start_new_session=True,  # its workers end with it
        )
    try:
        yield Server(f"https://127.0.0.1:{port}", authority), process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(server: Server, process: subprocess.Popen) -> bool:
    assert process.poll() is None, "the server has ended"
    try:
        return server.status_of("/health") == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """A server with passwords, and one without."""
    closed, opened = tmp_path_factory.mktemp("closed"), tmp_path_factory.mktemp("opened")
    (closed / "auth.ini").write_text(CONFIGURATION.format(directory=closed))
    secrets = {
        "MLFLOW_AUTH_CONFIG_PATH": str(closed / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the forms against cross-site requests",
    }
    with started(closed, "--app-name", "basic-auth", **secrets) as one, started(opened) as other:
        for made in (one, other):
            assert poll(lambda made=made: answers(*made), timeout_s=START_S, interval_s=0.1)
        for login in ("pipeline", "outsider"):
            user = {"username": login, "password": PASSWORDS[login]}
            assert one[0].status_of("/api/2.0/mlflow/users/create", "admin", **user) == 200
        yield SimpleNamespace(closed=one[0], opened=other[0])


@pytest.fixture
def log_in(servers, monkeypatch):
    """Become a user of the server with passwords, as SECURITY.md tells: by the environment alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(servers.closed.authority.certificate))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def become(login: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", login)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[login])

    return become


@pytest.fixture
def guarded_server(servers, log_in):
    """The server with passwords, and the pipeline logged in."""
    log_in("pipeline")
    return servers.closed


@pytest.fixture
def outcome(monkeypatch, tmp_path):
    """What a stage records that publishes a run to a server."""

    def handle(job):
        tracking = Tracking(job.settings)
        with tracking.publishing(DATASET_EXPERIMENT, "train_week_1", {}, lambda: None, batch_id="1") as run:
            run.text("note.txt", "hello")
        found = tracking.finished_run(DATASET_EXPERIMENT, "train_week_1", batch_id="1")
        path = tracking.download(found, "note.txt", tmp_path)
        tracking.client.set_tag(run.run_id, "superseded", "true")  # so that it can be published again
        return {"read": path.read_text()}

    monkeypatch.setitem(sys.modules, "publishing_handler", SimpleNamespace(handle=handle))

    def publish_to(server: Server):
        settings = read_settings(mlflow_tracking_uri=server.url, state_path=tmp_path, _env_file=None)
        return child._outcome(made_up_job(settings, "publishing_handler"))

    yield publish_to
    mlflow.set_tracking_uri(None)  # MLflow remembers it for the whole process
    mlflow.set_registry_uri(None)


def test_a_run_is_published_and_read_again(guarded_server, outcome):
    assert outcome(guarded_server) == {"read": "hello"}


@pytest.mark.parametrize("password", ["wrong", None])
def test_without_the_password_nothing_is_published_and_the_error_says_why(
    guarded_server, servers, outcome, protected, monkeypatch, password
):
    if password is None:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    if not protected:
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(servers.opened.authority.certificate))
        assert outcome(servers.opened) == {"read": "hello"}
        return
    error = str(outcome(guarded_server))
    assert "401" in error
    assert "not authenticated" in error


def test_another_user_reads_nothing_of_it(guarded_server, outcome, protected, tmp_path):
    assert outcome(guarded_server) == {"read": "hello"}
    tracking = Tracking(
        read_settings(mlflow_tracking_uri=guarded_server.url, state_path=tmp_path, _env_file=None)
    )
    experiment_id = tracking.experiment_id(DATASET_EXPERIMENT)
    if not protected:
        granted = {
            "username": "outsider",
            "resource_type": "experiment",
            "resource_id": experiment_id,
            "permission": "READ",
        }
        assert guarded_server.status_of("/api/3.0/mlflow/users/permissions/grant", "admin", **granted) == 200
    reading = f"/api/2.0/mlflow/experiments/get?experiment_id={experiment_id}"
    assert guarded_server.status_of(reading, "outsider") == (403 if protected else 200)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_another_authoritys_server_is_refused(guarded_server, outcome, protected, monkeypatch, tmp_path):
    if protected:
        stranger = Authority(tmp_path, "stranger")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(stranger.certificate))
        assert "certificate verify failed" in str(outcome(guarded_server))
        return
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert outcome(guarded_server) == {"read": "hello"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/mlflow/experiments/get?experiment_id=0",
        "/api/2.0/mlflow-artifacts/artifacts",
        "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0",
        "/",
    ],
)
def test_a_stranger_sees_nothing(servers, protected, path):
    server = servers.closed if protected else servers.opened
    assert (server.status_of(path) == 401) is protected
