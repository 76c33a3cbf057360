"""Stages whose runs hold next to nothing, and what `rakuten lineage` shows of them."""

from jobs import claim_job, finish
from rich.console import Console

from db.connect import connect
from db.database import Role
from listeners.job import Job
from rakuten.provenance.lineage_tree import tree_of
from shared.events import Stage
from shared.mlflow_names import (
    DATASET_EXPERIMENT,
    MODEL_EXPERIMENT,
    REGISTERED_MODEL,
    Artifact,
    dataset_name,
    model_run_name,
)


class Stages:
    """Both stages, publishing runs as the real ones do, with next to nothing in them."""

    def __init__(self, database, tracking):
        self.database, self.tracking = database, tracking

    def session(self, stage):
        return connect(self.database.conninfo(Role[stage.upper()]), "test", autocommit=True)

    def claim(self, stage, batch_id) -> Job:
        conninfo = self.database.conninfo(Role[stage.upper()])
        return claim_job(stage, conninfo, self.database.settings, batch_id)

    def record(self, job, **result):
        finish(job, result)

    def give_up(self, batch_id, reason):
        job = self.claim(Stage.SNAPSHOT, batch_id)
        with self.session(Stage.SNAPSHOT) as connection:
            connection.execute(
                "select fail_stage(%s, 'snapshot', %s, %s, null)", [batch_id, job.attempt, reason]
            )

    def build(self, batch_id) -> str:
        job = self.claim(Stage.SNAPSHOT, batch_id)
        name, tags = dataset_name(job.batch.name), job.batch.mlflow_tags
        digest = {"dataset_sha256": f"da7a{batch_id}"}
        with self.tracking.publishing(DATASET_EXPERIMENT, name, digest, job.require_claim, **tags) as run:
            run.text(f"{name}.parquet", f"rows of {name}")
            run.values(params={"total_rows": 900})
        self.record(job, run_id=run.run_id, total_rows=900, **digest)
        return run.run_id

    def train(self, batch_id, dataset_run_id) -> str:
        job = self.claim(Stage.TRAINING, batch_id)
        name, tags = model_run_name(job.batch.name), job.batch.mlflow_tags
        dataset = {"dataset_run_id": dataset_run_id}
        with self.tracking.publishing(MODEL_EXPERIMENT, name, dataset, job.require_claim, **tags) as run:
            run.text(Artifact.SUBMISSION, f"predictions of {name}")
            run.text("same.txt", "the same")
            interval = {"f1_score_ci_low": 0.7, "f1_score_ci_high": 0.8}
            run.values(metrics={"f1_score": 0.76, "accuracy": 0.77, **interval})
        self.record(job, run_id=run.run_id, model_version=self._register(run.run_id), f1_score=0.76)
        return run.run_id

    def _register(self, run_id) -> int:
        client = self.tracking.client
        if not client.search_registered_models():
            client.create_registered_model(REGISTERED_MODEL)
        return int(client.create_model_version(REGISTERED_MODEL, f"runs:/{run_id}/model", run_id).version)


def artifacts_of(tracking, run_id) -> str:
    return tracking.client.get_run(run_id).info.artifact_uri.removeprefix("file://")


def shown(document):
    console = Console(width=10_000, highlight=False)
    with console.capture() as captured:
        console.print(tree_of(document))
    return document, captured.get()
