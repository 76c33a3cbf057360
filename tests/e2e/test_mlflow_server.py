"""The chain through a real MLflow server: it refuses what a client's own sqlite store lets pass."""

import mlflow
import pandas as pd
import pytest
from listener_processes import Listeners
from mlflow_server import MlflowServer

from listeners.tracking.runs import Tracking


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
