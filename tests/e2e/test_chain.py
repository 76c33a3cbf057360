"""Three weeks through real listener processes, a real PostgreSQL and a real MLflow."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
import psycopg
import pytest
from sklearn.metrics import f1_score

from db import batches
from db.connect import engine
from db.database import Role
from listeners.mlflow_runs import Tracking
from shared.config import environment_for
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT

DEADLINE_S = 240
RAKUTEN = Path(sys.executable).with_name("rakuten")


class Listeners:
    """The two listeners of one database, as containers would run them."""

    def __init__(self, database, settings):
        self.database, self.settings = database, settings
        self.logs = {stage: settings.state_path / f"{stage}.log" for stage in Stage}
        self.processes = {}
        settings.state_path.mkdir(parents=True, exist_ok=True)

    def start(self):
        for stage in Stage:
            parts = psycopg.conninfo.conninfo_to_dict(self.database.conninfo(Role[stage.upper()]))
            environment = environment_for(self.settings) | {
                "POSTGRES_HOST": parts["host"],
                "POSTGRES_PORT": str(parts["port"]),
                "POSTGRES_DB": parts["dbname"],
                "POSTGRES_USER": parts["user"],
                "POSTGRES_PASSWORD": parts["password"],
            }
            with self.logs[stage].open("ab") as log:
                self.processes[stage] = subprocess.Popen(
                    [RAKUTEN, "listen", stage],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    cwd=self.settings.state_path,
                )
        self.wait(lambda: self._listening() >= set(Stage))

    def stop(self) -> list[int]:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in self.processes.values()]
        self.processes.clear()
        return codes

    def events(self, stage: Stage) -> list[dict]:
        lines = self.logs[stage].read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            for stage, process in self.processes.items():
                assert process.poll() is None, self.logs[stage].read_text()
            assert time.monotonic() < deadline, [log.read_text()[-2000:] for log in self.logs.values()]
            time.sleep(0.1)

    def wait_for_models(self, count: int):
        self.wait(lambda: sum(row["training_state"] == "finished" for row in self.status()) >= count)

    def status(self):
        with engine(self.database.conninfo(Role.READER), "test").connect() as connection:
            return batches.pipeline_status(connection)

    def _listening(self):
        with engine(self.database.conninfo(Role.READER), "test").connect() as connection:
            return batches.listening_stages(connection)


@pytest.fixture
def listeners(database, settings):
    running = Listeners(database, settings)
    yield running
    for process in running.processes.values():
        process.kill()
        process.wait()


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
        lambda: any(e["event"] == "notification ignored" for e in listeners.events(Stage.SNAPSHOT))
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
