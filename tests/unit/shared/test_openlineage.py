"""Events are right, whole and on file, and nothing that becomes of them is felt by the pipeline."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import UUID

import openlineage_reader
import pytest
import structlog
from repository import ROOT

from shared.batch import Batch
from shared.config import environment_for, read_settings
from shared.errors import BadInputError
from shared.openlineage import datasets, wire
from shared.openlineage.emitter import Emitter, JobName, State, Transition

# for another process that imports this module
PATHS = os.pathsep.join(map(str, [ROOT, Path(__file__).parent, ROOT / "tests" / "support"]))
BATCH = Batch(
    id=7,
    name="week_7",
    started_at=datetime(2026, 11, 2, tzinfo=UTC),
    completed_at=datetime(2026, 11, 2, 0, 1, tzinfo=UTC),
    status="completed",
    total_rows=580,
    week=7,
    chain_number=7,
    seal="5ea1",
    source={},
    metadata={
        "source": {"files": {"X_train.csv": "aa", "Y_train.csv": "bb", "X_test.csv": "cc"}},
        "load": {"products_written": 30, "labels_written": 29},
        "snapshot": {"result": {"run_id": "d" * 32, "dataset_sha256": "da7a", "total_rows": 900}},
    },
)
LOADED = Transition(JobName.LOAD, State.COMPLETE, BATCH.completed_at, BATCH, server_version="18.0")
BUILT = replace(LOADED, job=JobName.SNAPSHOT, attempt=2, result=BATCH.metadata["snapshot"]["result"])
TRAINED = replace(LOADED, job=JobName.TRAINING, result={"run_id": "e" * 32, "model_version": 3})


@pytest.fixture
def settings(tmp_path):
    return read_settings(
        state_path=tmp_path / "state", data_path="/raw", postgres_host="db", postgres_user="u"
    )


@pytest.fixture
def written(settings):
    return lambda: openlineage_reader.read(settings.openlineage_path)


@pytest.fixture
def warnings():
    with structlog.testing.capture_logs() as captured:
        yield captured


@contextmanager
def server(answer):
    """A server on a free port; `answer(handler)` deals with each POST. Yields its URL and the bodies that it was sent."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            answer(self)

        def log_message(self, *_):
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", bodies
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def accepted(handler):
    handler.send_response(201)
    handler.end_headers()


def refused(handler):
    handler.send_response(500)
    handler.end_headers()


def emit(settings, *transitions):
    with Emitter(settings) as emitter:
        for transition in transitions:
            emitter.emit(transition)


def test_each_event_is_a_line_that_the_clients_classes_accept(settings, written, warnings):
    failed = replace(BUILT, state=State.FAIL, result={}, error="no rows at postgresql://me:hunter2@db/x")
    emit(settings, replace(LOADED, state=State.START), LOADED, BUILT, failed, TRAINED)
    events = written()
    assert [(event.job.name, event.eventType.value) for event in events] == [
        ("load", "START"),
        ("load", "COMPLETE"),
        ("snapshot", "COMPLETE"),
        ("snapshot", "FAIL"),
        ("training", "COMPLETE"),
    ]
    assert {event.job.namespace for event in events} == {"rakuten"}
    assert events[3].run.facets["errorMessage"].message == "no rows at postgresql://me:***@db/x"
    assert not warnings


def test_what_one_job_writes_the_next_one_reads(settings):
    def versions(datasets):
        return {
            (item.namespace, item.name): getattr(item.facets.get("version"), "datasetVersion", None)
            for item in datasets
        }

    load, snapshot, training = (wire.run_event(step, settings) for step in (LOADED, BUILT, TRAINED))
    assert versions(load.inputs) == {("file", "/raw/X_train.csv"): "aa", ("file", "/raw/Y_train.csv"): "bb"}
    assert versions(load.outputs) == versions(snapshot.inputs)
    assert versions(load.outputs) == {
        ("postgres://db:5432", "rakuten_db.public.products"): "5ea1",
        ("postgres://db:5432", "rakuten_db.public.labels"): "5ea1",
    }
    assert versions(snapshot.outputs) == versions(training.inputs)
    assert [name for _, name in versions(snapshot.outputs)] == ["rakuten_dataset_versioning/train_week_7"]
    assert [*versions(snapshot.outputs).values()] == ["da7a"]
    assert [name for _, name in versions(training.outputs)] == ["models/rakuten_classifier"]
    assert [*versions(training.outputs).values()] == ["3"]


def test_counts_of_rows_are_told(settings):
    load, snapshot, training = (wire.run_event(step, settings) for step in (LOADED, BUILT, TRAINED))
    assert [item.outputFacets["outputStatistics"].rowCount for item in load.outputs] == [30, 29]
    assert load.outputs[0].facets["dataQualityMetrics"].rowCount == 580
    assert snapshot.inputs[0].inputFacets["inputStatistics"].rowCount == 580
    assert snapshot.outputs[0].facets["dataQualityMetrics"].rowCount == 900
    assert training.inputs[0].inputFacets["inputStatistics"].rowCount == 900


def test_a_column_of_the_dataset_is_traced_to_its_file(settings):
    load, snapshot, _ = (wire.run_event(step, settings) for step in (LOADED, BUILT, TRAINED))
    [origin] = snapshot.outputs[0].facets["columnLineage"].fields["prdtypecode"].inputFields
    labels = load.outputs[1]
    assert (origin.namespace, origin.name) == (labels.namespace, labels.name)
    [origin] = labels.facets["columnLineage"].fields[origin.field].inputFields
    assert (origin.name, origin.field) == ("/raw/Y_train.csv", "prdtypecode")


def test_the_events_of_an_attempt_share_an_id_that_no_other_has(settings):
    steps = [LOADED, BUILT, TRAINED, replace(BUILT, attempt=3), replace(BUILT, batch=replace(BATCH, id=8))]
    ids = {wire.run_id(step, settings) for step in steps}
    assert len(ids) == len(steps)
    assert {UUID(run_id).version for run_id in ids} == {7}
    for step in steps:
        starts = replace(step, state=State.START, at=datetime.now(UTC), result={})
        assert wire.run_id(starts, settings) in ids


def test_another_process_gives_the_same_ids(settings):
    program = (
        "from shared.openlineage import wire; from shared.config import read_settings; import test_openlineage as t;"
        "print(*(wire.run_id(s, read_settings()) for s in (t.LOADED, t.BUILT, t.TRAINED)))"
    )
    environment = environment_for(settings) | {"PYTHONPATH": PATHS, "PYTHONHASHSEED": "1"}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [wire.run_id(step, settings) for step in (LOADED, BUILT, TRAINED)]


def test_all_three_jobs_of_a_batch_have_the_batch_as_parent(settings):
    parents = {
        wire.run_event(step, settings).run.facets["parent"].run.runId for step in (LOADED, BUILT, TRAINED)
    }
    assert len(parents) == 1


@pytest.mark.parametrize(
    ("tracking_uri", "namespace"),
    [
        ("http://me:hunter2@mlflow:5000/", "mlflow://mlflow:5000"),
        ("https://ml.example.org/base?token=hunter2", "mlflow://ml.example.org/base"),
        ("sqlite:////data/mlflow/mlflow.db", "mlflow:////data/mlflow/mlflow.db"),
        ("postgresql+psycopg2://me:hunter2@db/mlflow_db", "mlflow://db/mlflow_db"),
    ],
)
def test_no_name_holds_a_login(tracking_uri, namespace):
    assert datasets.mlflow_namespace(tracking_uri) == namespace


def test_no_event_holds_a_login(tmp_path, written):
    settings = read_settings(
        state_path=tmp_path / "state",
        postgres_host="db",
        postgres_user="u",
        postgres_password="hunter2",  # noqa: S106
        mlflow_tracking_uri="http://me:hunter2@mlflow:5000",
        openlineage_url="http://me:hunter2@127.0.0.1:9",
        openlineage_api_key="hunter2",
    )
    emit(settings, LOADED, BUILT, TRAINED)
    assert "hunter2" not in (settings.openlineage_path).read_text() + repr(settings)


def test_lines_of_many_processes_never_mix(settings):
    """Events of 100 kB: a buffered writer would break each up."""
    program = (
        "import sys; from dataclasses import replace; import test_openlineage as t;"
        "from shared.config import read_settings;"
        "failed = replace(t.BUILT, state=t.State.FAIL, result={}, error=sys.argv[1] * 100_000);"
        "t.emit(read_settings(), *[failed] * 25)"
    )
    environment = environment_for(settings) | {"PYTHONPATH": PATHS}

    def write(letter):
        subprocess.run([sys.executable, "-c", program, letter], env=environment, check=True)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, "abc"))
    messages = [
        event.run.facets["errorMessage"].message
        for event in openlineage_reader.read(settings.openlineage_path)
    ]
    assert sorted(messages) == [letter * 100_000 for letter in "abc" for _ in range(25)]


def test_a_server_is_sent_what_the_file_says(settings, tmp_path, warnings):
    with server(accepted) as (url, bodies):
        changed = settings.model_copy(
            update=read_settings(openlineage_url=f"{url}/base", openlineage_api_key="k").model_dump(
                include={"openlineage_url", "openlineage_api_key"}
            )
        )
        emit(changed, replace(BUILT, state=State.START), BUILT)
    lines = (settings.openlineage_path).read_text().splitlines()
    assert [body for _, _, body in bodies] == [json.loads(line) for line in lines]
    assert {(path, key) for path, key, _ in bodies} == {("/base/api/v1/lineage", "Bearer k")}
    assert not warnings


@pytest.mark.parametrize("fault", ["closed", "broken", "silent"])
def test_a_server_that_is_away_is_told_of_once_and_delays_nothing(settings, written, warnings, fault):
    with socket.create_server(("127.0.0.1", 0)) as silent, server(refused) as (broken, _):
        address = {
            "closed": "http://127.0.0.1:9",
            "broken": broken,
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }[fault]
        changed = settings.model_copy(
            update={"openlineage_url": read_settings(openlineage_url=address).openlineage_url}
        )
        started = time.monotonic()
        emit(changed, *[BUILT] * 20)
        took_s = time.monotonic() - started
    assert len(written()) == 20
    # 2 s for an answer; a machine that is busy may take its time to import the client; waiting for each would take 40 s
    assert took_s < 20
    assert [warning["event"] for warning in warnings] in (
        [],  # the silent server is still waited for
        ["OpenLineage events do not reach the server; the file has them"],
    )
    assert bool(warnings) or fault == "silent"


def test_a_file_that_cannot_be_written_is_told_of_once(settings, warnings):
    settings.state_path.parent.mkdir(exist_ok=True)
    settings.state_path.write_text("a file where the folder should be")
    emit(settings, LOADED, BUILT)
    assert [warning["event"] for warning in warnings] == ["an OpenLineage event could not be written"]


def in_another_process(settings, program: str) -> str:
    """What a program that has `t`, this module, and `settings` says. It is given up after a minute."""
    begin = "import os, resource, time, test_openlineage as t; from shared.openlineage import emitter; settings = t.read_settings()"
    return subprocess.run(
        [sys.executable, "-c", f"{begin}\n{program}"],
        env=environment_for(settings) | {"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.parametrize("burst", [1, 3000])
def test_a_file_that_takes_nothing_is_given_up(settings, burst):
    settings.state_path.mkdir(parents=True)
    os.mkfifo(settings.openlineage_path)  # which nobody reads
    program = f"emitter._WRITE_TIMEOUT_S = 1; t.emit(settings, *[t.LOADED] * {burst}); print('done')"
    said = in_another_process(settings, program)
    assert said.endswith("done\n")
    assert said.count("an OpenLineage event could not be written") == 1


def test_a_line_that_was_cut_off_spoils_no_other(settings):
    program = """
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def written():
    return path.stat().st_size if path.exists() else 0
def wait_for(size):
    while written() < size:
        time.sleep(0.01)
path = settings.openlineage_path
with t.Emitter(settings) as emitter:
    emitter.emit(t.LOADED)
    wait_for(1)
    torn = written() + 9
    limit(torn)
    emitter.emit(t.BUILT)
    wait_for(torn)
    limit(resource.RLIM_INFINITY)
    emitter.emit(t.TRAINED)
"""
    assert "file is incomplete" in in_another_process(settings, program)
    whole, torn, after = (settings.openlineage_path).read_text().splitlines()
    assert len(torn) == 9
    assert [openlineage_reader.parse(line).job.name for line in (whole, after)] == ["load", "training"]


def test_it_can_be_switched_off(monkeypatch, settings):
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    emit(read_settings(state_path=settings.state_path), LOADED)
    assert not settings.state_path.exists()


def test_a_malformed_url_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_URL", "marquez:5000")
    with pytest.raises(BadInputError, match="OPENLINEAGE_URL"):
        read_settings()


def test_no_command_imports_the_client_before_it_emits():
    program = "import sys, rakuten.cli; print('openlineage' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "False\n"
