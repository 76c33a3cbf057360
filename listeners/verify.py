"""Is everything still what it was? The seals of the batches, the runs in MLflow, their files, and the models' descent.

PostgreSQL and MLflow each keep digests of what the other holds: a batch's seal is a tag of its runs, and a run's record and
manifest are kept with the batch. So neither can be changed alone, and what does not match is named.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import mlflow.artifacts
import psycopg
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from psycopg.rows import TupleRow, dict_row

from db.sql import query
from listeners.digest import sha256_of
from listeners.mlflow_runs import Tracking, record_sha256
from shared.errors import StageError
from shared.mlflow_names import (
    MANIFEST,
    MODEL_ARTIFACT,
    REGISTERED_MODEL,
    TAG_BATCH_SEAL,
    TAG_DATASET_RUN_ID,
    TAG_DATASET_SHA256,
    TAG_MODEL_URI,
    TAG_SUPERSEDED,
    parquet_name,
)

_MADE_BEFORE: Final = "made before runs were recorded with their batch: rakuten reproduce tells more"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `problem` is None where it is as it was; `certain` is False where nothing could tell."""

    batch_name: str
    subject: str
    problem: str | None = None
    certain: bool = True


def verify_batches(connection: psycopg.Connection[TupleRow]) -> list[Check]:
    """A check of each completed batch's seal, in the order of the chain."""
    rows = connection.execute("select batch_name, problem from verify_seals()").fetchall()
    return [Check(name, "seal", problem) for name, problem in rows]


def recorded_stages(connection: psycopg.Connection[TupleRow]) -> list[dict[str, Any]]:
    """What PostgreSQL has recorded of each finished stage: batch_name, stage, seal, and its `result`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("recorded_results")).fetchall()


def verify_stage(tracking: Tracking, recorded: Mapping[str, Any], snapshots: Path) -> Iterator[Check]:
    """Check the run of one finished stage: its record, its files, its batch, and what it was made from.

    Args:
        tracking: MLflow.
        recorded: a row of `recorded_stages`.
        snapshots: the folder of the copies of the datasets, which may be missing.
    """
    result, name = recorded["result"], recorded["batch_name"]
    subject = f"{recorded['stage']} run {result['run_id']}"
    run = _finished_run(tracking, result["run_id"])
    if run is None:
        yield Check(name, subject, "MLflow has no such finished run")
        return
    yield Check(name, subject, _record_problem(run, result), certain="record_sha256" in result)
    yield Check(
        name,
        f"{subject}, batch",
        _differs("the seal of its batch", run.data.tags.get(TAG_BATCH_SEAL), recorded["seal"]),
    )
    yield from _verify_files(tracking, run, result, name, subject)
    if recorded["stage"] == "training":
        yield Check(name, f"{subject}, descent", _descent_problem(tracking, run, recorded))
    else:
        copy = snapshots / parquet_name(str(run.info.run_name))
        if copy.exists():
            problem = _differs("its SHA-256", sha256_of(copy), result["dataset_sha256"])
            yield Check(name, f"copy {copy.name}", problem)
        for fixed, record in result.get("fixed_sets", {}).items():
            yield from _verify_fixed_set(tracking, name, fixed, record)


def _verify_fixed_set(
    tracking: Tracking, batch_name: str, fixed: str, record: dict[str, Any]
) -> Iterator[Check]:
    subject = f"{fixed} run {record['run_id']}"
    run = _finished_run(tracking, record["run_id"])
    if run is None:
        yield Check(batch_name, subject, "MLflow has no such finished run")
        return
    yield Check(batch_name, subject, _record_problem(run, record))
    yield from _verify_files(tracking, run, record, batch_name, subject)


def _finished_run(tracking: Tracking, run_id: str) -> Run | None:
    try:
        run = tracking.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    counts = run.info.status == "FINISHED" and run.info.lifecycle_stage == "active"
    return run if counts and TAG_SUPERSEDED not in run.data.tags else None


def _record_problem(run: Run, record: Mapping[str, Any]) -> str | None:
    if "record_sha256" not in record:
        return _MADE_BEFORE
    if record_sha256(run) == record["record_sha256"]:
        return None
    return "a param, a metric or a tag was changed"


def _verify_files(
    tracking: Tracking, run: Run, record: Mapping[str, Any], batch_name: str, subject: str
) -> Iterator[Check]:
    if "manifest_sha256" not in record:
        return
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        directory = Path(scratch)
        try:
            manifest = tracking.download(run, MANIFEST, directory)
        except StageError:
            yield Check(batch_name, f"{subject}, {MANIFEST}", "it cannot be read")
            return
        problem = _differs("its SHA-256", sha256_of(manifest), record["manifest_sha256"])
        yield Check(batch_name, f"{subject}, {MANIFEST}", problem)
        for path, sha256 in json.loads(manifest.read_text(encoding="utf-8"))["artifacts"].items():
            try:
                problem = _differs("its SHA-256", sha256_of(_file(tracking, run, path, directory)), sha256)
            except (StageError, MlflowException, OSError):
                problem = "it cannot be read"
            yield Check(batch_name, f"{subject}, {path}", problem)


def _file(tracking: Tracking, run: Run, path: str, directory: Path) -> Path:
    """One file of a run; those of its model lie where the model does."""
    inside = path.removeprefix(f"{MODEL_ARTIFACT}/")
    if inside == path:
        return tracking.download(run, path, directory)
    model = directory / MODEL_ARTIFACT
    if not model.exists():
        mlflow.artifacts.download_artifacts(run.data.tags[TAG_MODEL_URI], dst_path=str(model))
    return model / inside


def _descent_problem(tracking: Tracking, run: Run, recorded: Mapping[str, Any]) -> str | None:
    """Whether the model was trained from the dataset that is on record for its batch, and is registered as recorded."""
    dataset, tags = recorded["dataset"], run.data.tags
    version = str(recorded["result"]["model_version"])
    try:
        registered = tracking.client.get_model_version(REGISTERED_MODEL, version)
    except MlflowException:
        return f"version {version} of {REGISTERED_MODEL} is not there"
    return (
        _differs("its dataset's run", tags.get(TAG_DATASET_RUN_ID), dataset["run_id"])
        or _differs("its dataset's SHA-256", tags.get(TAG_DATASET_SHA256), dataset["dataset_sha256"])
        or _differs(f"the run of version {version}", registered.run_id, run.info.run_id)
        or _differs(f"the model of version {version}", registered.source, tags.get(TAG_MODEL_URI))
    )


def _differs(what: str, found: str | None, recorded: str | None) -> str | None:
    return None if found == recorded else f"{what} is {found}, and was {recorded}"
