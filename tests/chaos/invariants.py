"""What must be true of every batch afterwards, whatever went wrong: one dataset, one model, of the right bytes."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from environment import Environment
from mlflow import MlflowClient
from mlflow.entities import Run

from db.connect import connect_arrow
from db.database import Role
from listeners.datasets.manifest import MANIFEST, Manifest
from listeners.datasets.store import Store
from listeners.snapshot import local as snapshot
from listeners.snapshot.dataset_digest import identity_of
from shared.hashing import sha256_of
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, REGISTERED_MODEL, Tag, parquet_name

EXPERIMENTS = {"snapshot": DATASET_EXPERIMENT, "training": MODEL_EXPERIMENT}


@dataclass
class Verdict:
    """How many stages of batches are without their run, or have more than one; and whatever else is not as it must be."""

    lost: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)

    def require(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


def check(environment: Environment, batch_ids: list[int]) -> Verdict:
    """Look at these batches in PostgreSQL, in MLflow and on disk, past the proxies."""
    verdict = Verdict()
    client = MlflowClient(environment.mlflow_server.url, environment.mlflow_server.url)
    for batch in environment.query(
        "select id, batch_name, metadata from data_loads where id = any(%s) order by id", batch_ids
    ):
        for stage, experiment in EXPERIMENTS.items():
            runs = _runs(environment, client, experiment, batch["id"])
            _check_stage(verdict, client, batch, stage, runs)
            if stage == "snapshot" and len(finished := _published(runs)) == 1:
                _check_bytes(verdict, environment, batch, finished[0])
    [history] = environment.query(
        "select (select count(*) from products) as products, (select count(*) from products_history) as entries"
    )
    verdict.require(
        history["products"] == history["entries"],
        f"{history['products']} products have {history['entries']} entries in the history",
    )
    return verdict


def _runs(environment: Environment, client: MlflowClient, experiment: str, batch_id: int) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    [batch] = environment.query("select seal from batches where id = %s", batch_id)
    return list(client.search_runs([found.experiment_id], f"tags.{Tag.BATCH_SEAL} = '{batch['seal']}'"))


def _published(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.info.status == "FINISHED" and Tag.SUPERSEDED not in run.data.tags]


def _check_stage(verdict: Verdict, client: MlflowClient, batch: dict, stage: str, runs: list[Run]) -> None:
    name = f"{batch['batch_name']} {stage}"
    recorded = batch["metadata"].get(stage, {})
    finished = _published(runs)
    if not finished or recorded.get("state") != "finished":
        verdict.lost += 1
        statuses = [run.info.status for run in runs]
        verdict.problems.append(
            f"{name}: {recorded.get('state')} after {recorded.get('error')}, runs {statuses}"
        )
        return
    verdict.doubled += len(finished) - 1
    verdict.require(len(finished) == 1, f"{name}: {len(finished)} finished runs")
    verdict.require(
        recorded["result"]["run_id"] in {run.info.run_id for run in finished},
        f"{name}: PostgreSQL records a run that is not the finished one",
    )
    verdict.require("RUNNING" not in {run.info.status for run in runs}, f"{name}: a run was left RUNNING")
    if stage == "training":
        versions = [
            version
            for run in runs
            for version in client.search_model_versions(
                f"name = '{REGISTERED_MODEL}' and run_id = '{run.info.run_id}'"
            )
        ]
        verdict.doubled += max(0, len(versions) - 1)
        verdict.require(len(versions) == 1, f"{name}: {len(versions)} registered versions")


def promotion_verdict(environment: Environment, batch_id: int) -> dict:
    """What the training stage decided about a batch's model, and why."""
    result = environment.record(batch_id, "training")["result"]
    client = MlflowClient(environment.mlflow_server.url, environment.mlflow_server.url)
    run = client.get_run(result["run_id"])
    logged = environment.directory / "mlflow" / "artifacts" / run.info.experiment_id / run.info.run_id
    return json.loads((logged / "artifacts" / result["promotion"]).read_text())


def champion_moves(environment: Environment) -> list[dict]:
    """Every move of the alias `champion`."""
    client = MlflowClient(environment.mlflow_server.url, environment.mlflow_server.url)
    tags = client.get_registered_model(REGISTERED_MODEL).tags
    return [json.loads(value) for name, value in tags.items() if name.startswith("champion_history.")]


def _check_bytes(verdict: Verdict, environment: Environment, batch: dict, run: Run) -> None:
    """The file in MLflow, its digest in the tag, and the same dataset built undisturbed are the same bytes."""
    name = parquet_name(run.info.run_name)
    logged = environment.directory / "mlflow" / "artifacts" / run.info.experiment_id / run.info.run_id
    with (
        tempfile.TemporaryDirectory() as directory,
        connect_arrow(environment.database.conninfo(Role.SNAPSHOT), "chaos") as connection,
    ):
        path = Path(directory) / name
        snapshot.build(connection, batch["id"], environment.settings.random_seed, path)
        if (uri := run.data.tags.get(Tag.DATASET_URI)) is not None:
            _check_folder(verdict, Store(uri), run, identity_of(path).digest)
            return
        digests = {sha256_of(path), sha256_of(logged / "artifacts" / name), run.data.tags[Tag.DATASET_SHA256]}
    verdict.require(len(digests) == 1, f"{run.info.run_name}: not the bytes of an undisturbed build")


def _check_folder(verdict: Verdict, folder: Store, run: Run, digest: str) -> None:
    """The folder that Spark has written is whole, has the rows of an undisturbed build, and nothing else is left of any attempt."""
    manifest = Manifest.read(folder, run.data.tags[Tag.DATASET_SHA256])
    manifest.require_unchanged(folder)
    path = Path(folder.uri)
    digests = {digest, manifest.dataset_digest, run.data.tags[Tag.DATASET_DIGEST], identity_of(path).digest}
    verdict.require(len(digests) == 1, f"{run.info.run_name}: not the rows of an undisturbed build")
    files = {file.name for file in path.iterdir()}
    verdict.require(
        files == {MANIFEST, *(part.name for part in manifest.parts)}, f"{run.info.run_name}: files {files}"
    )
    attempts = [each.name for each in path.parent.iterdir()]
    verdict.require(attempts == [path.name], f"{run.info.run_name}: attempts {attempts} in the store")
