"""Three weeks through real listener processes, a real PostgreSQL and a real MLflow."""

import mlflow
import pandas as pd
import psycopg
import pytest
from listener_processes import Listeners
from sklearn.metrics import f1_score

from db.database import Role
from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT


@pytest.fixture
def listeners(database, settings):
    running = Listeners(database, settings)
    yield running
    running.kill()


def finished(tracking, experiment, name):
    return tracking._runs(experiment, name, "FINISHED", {})


def test_three_weeks_become_datasets_and_models(listeners, load_weeks, settings, database, tmp_path):
    listeners.start()
    [first] = load_weeks(1)
    listeners.wait_for_models(1)

    # a forged notification changes nothing, and is logged
    with psycopg.connect(database.conninfo(Role.LOADER), autocommit=True) as connection:
        connection.execute("notify batch_completed, 'garbage'")
    listeners.wait(
        lambda: any(e["event"] == "notification rejected" for e in listeners.events(Stage.SNAPSHOT))
    )

    # both are stopped, two weeks arrive, both are started again: caught up in order
    assert listeners.stop() == [0, 0]
    second, third = load_weeks(2)
    listeners.start()
    listeners.wait_for_models(3)
    assert listeners.stop() == [0, 0]

    rows = listeners.status()
    assert [row["batch_id"] for row in rows] == [first, second, third]
    assert [row["snapshot_wake"] for row in rows] == ["notify", "start", "start"]
    assert rows[0]["training_wake"] == "notify"
    done = [e["batch_id"] for e in listeners.events(Stage.TRAINING) if e["event"] == "finished"]
    assert done == [first, second, third]

    tracking = Tracking(settings)
    for week, row in enumerate(rows, start=1):
        [dataset] = finished(tracking, DATASET_EXPERIMENT, f"train_week_{week}")
        [model] = finished(tracking, MODEL_EXPERIMENT, f"model_week_{week}")
        assert dataset.info.run_id == row["dataset_run_id"] == model.data.tags["dataset_run_id"]
        assert model.info.run_id == row["model_run_id"]
        assert model.data.tags["batch_id"] == dataset.data.tags["batch_id"] == str(row["batch_id"])
        assert {"accuracy", "f1_score", "precision", "recall", "f1_macro", "f1_score_ci_low"} <= set(
            model.data.metrics
        )
        artifacts = {artifact.path for artifact in tracking.client.list_artifacts(model.info.run_id)}
        assert {"confusion_matrix.png", "classification_report.txt", "test_predictions.csv"} <= artifacts

    assert_champion_scores_what_it_logged(tracking, settings.data_path, tmp_path)


def assert_champion_scores_what_it_logged(tracking, data_path, tmp_path):
    version = tracking.client.get_model_version_by_alias("rakuten_classifier", "champion")
    [holdout_run] = finished(tracking, DATASET_EXPERIMENT, "holdout_df")
    holdout = pd.read_parquet(tracking.download(holdout_run, "holdout_df.parquet", tmp_path))
    champion = mlflow.pyfunc.load_model("models:/rakuten_classifier@champion")
    run = tracking.client.get_run(version.run_id)
    logged = tracking.client.get_logged_model(version.source.removeprefix("models:/"))
    assert logged.experiment_id == run.info.experiment_id
    assert not (tracking._directory.parent / "mlruns").exists()
    score = f1_score(holdout["prdtypecode"], champion.predict(holdout), average="weighted")
    assert score == run.data.metrics["f1_score"]
    submission = pd.read_csv(tracking.download(run, "test_predictions.csv", tmp_path), index_col=0)
    assert list(submission.columns) == ["prdtypecode"]
    assert submission.index.name is None
    assert submission.index.tolist() == pd.read_csv(data_path / "X_test.csv", index_col=0).index.tolist()
