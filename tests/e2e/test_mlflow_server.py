"""The chain through a real MLflow server: it refuses what a client's own sqlite store lets pass."""

import re

import mlflow
import pandas as pd
import pytest
import requests
from listener_processes import Listeners
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from mlflow_server import MlflowServer

from db.batches import pipeline_doctor
from db.connect import connect
from db.database import Role
from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT


@pytest.fixture
def mlflow_server(tmp_path):
    with MlflowServer(tmp_path / "server") as server:
        yield server.url


def test_a_week_becomes_a_registered_champion(mlflow_server, database, settings, load_weeks):
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
    artifacts = [artifact.path for artifact in tracking.client.list_artifacts(run.info.run_id)]
    assert [path for path in artifacts if path.startswith("promotion")]
    assert_that_the_pages_explain_themselves(tracking, run)


def assert_that_the_pages_explain_themselves(tracking, run):
    for name in (DATASET_EXPERIMENT, MODEL_EXPERIMENT):
        tags = tracking.client.get_experiment_by_name(name).tags
        assert tags["mlflow.experimentKind"] == "custom_model_development"
        assert "One run per batch" in tags[MLFLOW_RUN_NOTE]
    dataset = tracking.client.get_run(run.data.tags["dataset_run_id"])
    f1 = run.data.metrics["f1_score"]
    note = run.data.tags[MLFLOW_RUN_NOTE]
    assert f"**F1 {f1:.4f}**" in note
    assert f"[train_week_1](#/experiments/{dataset.info.experiment_id}/runs/{dataset.info.run_id})" in note
    assert "rakuten reproduce week_1" in note
    assert run.data.tags["batch_seal"] in note
    assert "balanced to" in dataset.data.tags[MLFLOW_RUN_NOTE]
    classes = [
        value for name, value in dataset.data.metrics.items() if re.fullmatch(r"class_\d+_count", name)
    ]
    assert set(classes) == {dataset.data.metrics["rows_per_class"]}
    assert run.data.metrics["f1_weighted"] == f1
    for logged, metric in ((run, "f1_score"), (dataset, "distinct_products")):
        assert [point.step for point in tracking.client.get_metric_history(logged.info.run_id, metric)] == [1]
        assert re.fullmatch("[0-9a-f]{40}", logged.data.tags["mlflow.source.git.commit"])
    [version] = tracking.client.search_model_versions("name = 'rakuten_classifier'")
    assert (version.tags["f1_score"], version.tags["dataset_name"]) == (f"{f1:.4f}", "train_week_1")
    assert f"F1 {f1:.4f} on the holdout" in version.description
    assert "champion" in tracking.client.get_registered_model("rakuten_classifier").description


USER, PASSWORD, ROTATED = "admin", "first password 1234", "second password 1234"


def test_a_rotated_password_is_waited_out_and_counts_no_failure(
    database, settings, load_weeks, tmp_path, monkeypatch
):
    secret = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "only for this test", "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
    with MlflowServer(tmp_path / "server", "--app-name", "basic-auth", **secret) as server:
        settings = settings.model_copy(update={"mlflow_tracking_uri": server.url})
        listeners = Listeners(database, settings)
        try:
            for name, value in {"USERNAME": USER, "PASSWORD": PASSWORD}.items():
                monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
            listeners.start(Stage.SNAPSHOT)
            rotate(server.url, PASSWORD, ROTATED)
            load_weeks(1)
            listeners.wait(lambda: "outage" in findings(database))
            assert "MLflow rejects the login" in findings(database)["outage"]
            rotate(server.url, ROTATED, PASSWORD)
            listeners.wait(lambda: listeners.status()[0]["snapshot_state"] == "finished")
            assert listeners.stop() == [0]
        finally:
            listeners.kill()
        assert listeners.status()[0]["snapshot_failures"] in {None, 0}


def rotate(url: str, old: str, new: str) -> None:
    done = requests.patch(
        f"{url}/api/2.0/mlflow/users/update-password",
        json={"username": USER, "password": new, "current_password": old},
        auth=(USER, old),
        timeout=30,
    )
    assert done.status_code == 200, done.text


def findings(database) -> dict[str, str]:
    with connect(database.conninfo(Role.READER), "test") as connection:
        return {row["finding"]: str(row) for row in pipeline_doctor(connection)}
