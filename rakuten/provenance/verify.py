"""Check that nobody changed the batches, their runs in MLflow, the files and inputs of the runs, or the list of champions.

Each batch has a seal: a digest that also covers the seal of the batch before. PostgreSQL and MLflow each keep digests of the
other's content. In MLflow, the runs of a batch have its seal as a tag. PostgreSQL keeps the digests of each run's record
(params, metrics, tags) and manifest. So a change in only one of the two systems is detected and reported.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from psycopg.rows import TupleRow

from db.batches import rows
from db.sql import query
from listeners.datasets.manifest import Manifest
from listeners.datasets.store import Store
from listeners.outages import outage_of
from listeners.tracking import artifacts
from listeners.tracking.manifest import record_sha256
from listeners.tracking.runs import Tracking, if_known
from rakuten.provenance.checks import Cause, Check, differs
from rakuten.provenance.orphans import chain_numbers
from rakuten.provenance.verify_database import verify_database
from rakuten.provenance.verify_registry import SETTLE_ORPHANS, verify_champions
from shared.errors import OutageError, StageError
from shared.hashing import sha256_of
from shared.mlflow_names import (
    DATASET_EXPERIMENT,
    MODEL_EXPERIMENT,
    Artifact,
    Tag,
    parquet_name,
)

_UNREADABLE: Final = "the file cannot be read"


def verify(connection: psycopg.Connection[TupleRow], tracking: Tracking, snapshots: Path) -> Iterator[Check]:
    """Check that no batch, run, file, model or champion was changed after it was recorded.

    Yield each result, oldest batch first.

    Args:
        connection: connection with a role that may read the history.
        tracking: MLflow, which is only read.
        snapshots: folder with local copies of the datasets. It may be missing.

    Raises:
        OutageError: MLflow or the disk is unavailable. An outage does not mean that something was changed.
    """
    yield from verify_database(connection)
    stages = rows(connection, query("provenance/recorded_results"))
    for recorded in stages:
        yield from _verify_stage(tracking, recorded, snapshots)
    yield from _verify_fixed_sets(tracking, stages)
    seals = chain_numbers(connection).keys()
    yield from _verify_unknown_runs(tracking, seals)
    copies = rows(connection, query("provenance/recorded_moves"))
    yield from verify_champions(tracking, stages, seals, copies)


def _verify_stage(tracking: Tracking, recorded: Mapping[str, Any], snapshots: Path) -> Iterator[Check]:
    """Check the MLflow run of one stage (snapshot or training) of one batch: its params, metrics, tags and files.

    For a training run, also check the dataset of the model. For a snapshot run, also check the local copy of the dataset.
    """
    result, name = recorded["result"], recorded["batch_name"]
    subject = f"{recorded['stage']} run {result['run_id']}"
    run = tracking.valid_run(result["run_id"])
    if run is None:
        yield Check(name, subject, "MLflow has no such finished run")
        return
    yield Check(name, subject, _record_problem(run, result) or _result_problem(run, result))
    seal = run.data.tags.get(Tag.BATCH_SEAL)
    yield Check(name, f"{subject}, batch", differs("the seal of its batch", seal, recorded["seal"]))
    yield from _verify_files(tracking, run, result, name, subject)
    if recorded["stage"] == "training":
        yield from _verify_inputs(tracking, run, recorded, name, subject)
    elif (uri := result.get("dataset_uri")) is not None:
        yield Check(name, f"folder {uri}", _folder_problem(Store(uri), result["dataset_sha256"]))
    else:
        copy = snapshots / parquet_name(str(run.info.run_name))
        if copy.exists():
            problem = differs("its SHA-256", sha256_of(copy), result["dataset_sha256"])
            yield Check(name, f"copy {copy.name}", problem)


def _folder_problem(folder: Store, manifest_sha256: str) -> str | None:
    """Compare each file of a dataset in DATASET_STORE with its SHA-256.

    Raises:
        OutageError: the store does not answer, or its disk is not mounted, so the folder of all datasets is missing.
    """
    folder.parent.parent.require_folder()
    try:
        Manifest.read(folder, manifest_sha256).require_unchanged(folder)
    except OutageError:
        raise
    except StageError as error:  # a VerificationError is one, too
        return error.message
    return None


def _verify_fixed_sets(tracking: Tracking, stages: list[dict[str, Any]]) -> Iterator[Check]:
    """Check the two MLflow runs that hold the test set and the holdout set, which are the same for all batches.

    Also check that no batch has recorded other runs for these two sets.
    """
    first: dict[str, dict[str, Any]] = {}
    for recorded in stages:
        for name, record in recorded["result"].get("fixed_sets", {}).items():
            if record != first.setdefault(name, record):
                problem = f"it records {name} as run {record['run_id']}, but earlier batches as run {first[name]['run_id']}"
                yield Check(recorded["batch_name"], f"record of {name}", problem)
    for name, record in first.items():
        subject = f"{name} run {record['run_id']}"
        run = tracking.valid_run(record["run_id"])
        if run is None:
            yield Check("", subject, "MLflow has no such finished run")
        else:
            yield Check("", subject, _record_problem(run, record))
            yield from _verify_files(tracking, run, record, "", subject)


def _verify_unknown_runs(tracking: Tracking, seals: Collection[str]) -> Iterator[Check]:
    """Report each finished MLflow run whose batch is not in PostgreSQL.

    This is no proof of a change: an older PostgreSQL may have been restored, or a standby without the last batch promoted.
    """
    for experiment in (DATASET_EXPERIMENT, MODEL_EXPERIMENT):
        for run in tracking.runs(experiment, Tag.BATCH_SEAL):
            if run.info.status == "FINISHED" and run.data.tags[Tag.BATCH_SEAL] not in seals:
                problem = (
                    f"PostgreSQL does not have its batch {run.data.tags.get(Tag.BATCH_ID)}: "
                    "PostgreSQL was restored to an earlier time, or somebody deleted the batch"
                )
                name = str(run.info.run_name)
                yield Check(name, f"run {run.info.run_id}", problem, Cause.ORPHANED, SETTLE_ORPHANS)


def _record_problem(run: Run, record: Mapping[str, Any]) -> str | None:
    same = record_sha256(run) == record["record_sha256"]
    return None if same else "a param, a metric or a tag was changed"


def _result_problem(run: Run, result: Mapping[str, Any]) -> str | None:
    """Compare what PostgreSQL has recorded about a run, such as its scores, with the params, metrics and tags of the run."""
    known: dict[str, Any] = {**run.data.tags, **run.data.params, **run.data.metrics}
    found = ((name, known[name], value) for name, value in result.items() if name in known)
    return next(
        (
            f"PostgreSQL has recorded {name} {value}, and the run has {logged}"
            for name, logged, value in found
            if (float(logged) != value if isinstance(value, int | float) else logged != value)
        ),
        None,
    )


def _verify_files(
    tracking: Tracking, run: Run, record: Mapping[str, Any], batch_name: str, subject: str
) -> Iterator[Check]:
    """Compare every file of the run with its digest in the run's manifest, and the manifest with its digest in PostgreSQL."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        directory = Path(scratch)
        # PostgreSQL holds the digests of two files that the manifest does not list: the manifest itself, and the file with the
        # promotion decision, which is written after the run is finished
        recorded_digests = {
            str(name): record[key]
            for name, key in (
                (Artifact.MANIFEST, "manifest_sha256"),
                (record.get("promotion"), "promotion_sha256"),
            )
            if record.get(key) is not None
        }
        for name, sha256 in recorded_digests.items():
            yield Check(
                batch_name, f"{subject}, {name}", _file_problem(tracking, run, name, directory, sha256)
            )
        try:
            manifest = json.loads((directory / Artifact.MANIFEST).read_text(encoding="utf-8"))["artifacts"]
        except (OSError, ValueError, KeyError):
            return  # the manifest is missing or damaged: its own check above has already reported this
        for name, sha256 in manifest.items():
            yield Check(
                batch_name, f"{subject}, {name}", _file_problem(tracking, run, name, directory, sha256)
            )


def _file_problem(tracking: Tracking, run: Run, name: str, directory: Path, sha256: str) -> str | None:
    try:
        return differs("its SHA-256", sha256_of(_file(tracking, run, name, directory)), sha256)
    except (StageError, MlflowException, OSError) as error:
        if (outage := outage_of(error)) is not None:
            raise outage from error
        return _UNREADABLE


def _file(tracking: Tracking, run: Run, path: str, directory: Path) -> Path:
    """Download one file of a run, and return the path of the local copy.

    For a file of the run's model, download the whole model, because MLflow stores these files with the model, not with the run.
    """
    inside = path.removeprefix(f"{Artifact.MODEL}/")
    if inside == path:
        return tracking.download(run, path, directory)
    model = directory / Artifact.MODEL
    if not model.exists():
        artifacts.download(run.data.tags[Tag.MODEL_URI], "", model, tracking.uri)
    return model / inside


def _verify_inputs(
    tracking: Tracking, run: Run, recorded: Mapping[str, Any], batch_name: str, subject: str
) -> Iterator[Check]:
    """Check that a model was trained from the dataset of its batch, and is registered with the recorded version number.

    The check compares the SHA-256 of the dataset, not its run id: a lost dataset may have been rebuilt in a new run.
    """
    dataset, tags = recorded["dataset"], run.data.tags
    if dataset is None:
        yield Check(batch_name, f"{subject}, dataset", "its dataset is being rebuilt", Cause.UNKNOWN)
    else:
        sha256 = tags.get(Tag.DATASET_SHA256)
        problem = differs("its dataset's SHA-256", sha256, dataset["dataset_sha256"])
        yield Check(batch_name, f"{subject}, dataset", problem)
    version = str(recorded["result"]["model_version"])
    yield Check(batch_name, f"{subject}, version {version}", _version_problem(tracking, run, version))


def _version_problem(tracking: Tracking, run: Run, version: str) -> str | None:
    registered = if_known(lambda: tracking.client.get_model_version(tracking.registered_model, version))
    if registered is None:
        return f"{tracking.registered_model} has no such version"
    tags = run.data.tags
    pairs = [
        ("run", registered.run_id, run.info.run_id),
        ("model", registered.source, tags.get(Tag.MODEL_URI)),
    ]
    pairs += [
        (f"tag {name}", registered.tags.get(name), tags.get(name))
        for name in (Tag.BATCH_ID, Tag.BATCH_NUMBER, Tag.BATCH_SEAL)
    ]
    return next((differs(f"its {what}", *found) for what, *found in pairs if found[0] != found[1]), None)
