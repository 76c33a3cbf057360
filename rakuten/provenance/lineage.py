"""Collect where a batch, dataset, model, product or file comes from, and what was built from it, in one document.

The document is for people and for programs. PostgreSQL knows which runs should exist, and MLflow knows which runs do exist.
The document also lists what is missing: a stage that has not run yet, a run that was deleted, an MLflow that is unavailable.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeVar

from mlflow.entities import LifecycleStage, Run
from mlflow.entities.model_registry import ModelVersion

from db.batches import Connection, rows
from db.sql import query
from listeners.outages import outage_of
from listeners.tracking.registry import versions_of
from listeners.tracking.runs import Tracking
from rakuten.provenance.references import Reference
from shared.mlflow_names import (
    Tag,
    dataset_name,
    model_run_name,
)

_METRICS: Final = ("f1_score", "f1_score_ci_low", "f1_score_ci_high", "f1_macro", "accuracy")
_BATCH: Final = (
    "batch_id",
    "batch_name",
    "completed_at",
    "total_rows",
    "new_rows",
    "corrections",
    "reason",
    "loaded_by",
    "application",
    "changes_outside",
    "seal",
)

Document = dict[str, Any]
_T = TypeVar("_T")


def lineage(reference: Reference, connection: Connection, tracking: Tracking) -> Document:
    """Return the lineage of `reference` as a document. Later versions may add keys, but not change or remove any.

    `source` describes the source files of the first load. `mlflow` says why MLflow could not be queried. A key that does not
    apply is null or empty.

    If `reference` is a product, `product` has the history of the product, and `batches` lists every batch whose dataset
    contains the product. Each entry has the batch's `dataset`, and each dataset has its `model`.

    Every other reference belongs to one batch. `batches` lists this batch and all earlier batches, oldest first. Only the entry
    of this batch has its `dataset`, and the dataset has its `model`. `later` names the batches that were completed after this
    batch.
    """
    chain = rows(connection, query("provenance/batch_chain"))
    mlflow = _Mlflow(tracking)
    source = chain[0]["source"] if chain else None
    product, later = None, []
    if reference.productid is not None:
        parameters = {"productid": reference.productid}
        product = {
            **parameters,
            "history": rows(connection, query("provenance/history_of_product"), parameters),
        }
        holders = {
            row["batch_id"] for row in rows(connection, query("provenance/datasets_of_product"), parameters)
        }
        batches = [_batch(row, source, mlflow) for row in chain if row["batch_id"] in holders]
    else:
        place = next(
            (number for number, row in enumerate(chain) if row["batch_id"] == reference.batch_id), None
        )
        if place is None:
            source, batches = None, [_batch(_unknown_batch(reference, mlflow), None, mlflow)]
        else:
            requested = _with_requested_runs(chain[place], reference)
            batches = [*(_batch(row, source) for row in chain[:place]), _batch(requested, source, mlflow)]
            later = [row["batch_name"] for row in chain[place + 1 :]]
    return {
        "reference": asdict(reference),
        "source": None if source is None else {**source, "files": _files(source)},
        "product": product,
        "batches": batches,
        "later": later,
        "mlflow": mlflow.problem,
    }


def _files(source: Document | None) -> list[Document]:
    files = (source or {}).get("files", {})
    return [{"name": name, "sha256": files[name]} for name in sorted(files)]


def _with_requested_runs(row: Document, reference: Reference) -> Document:
    """Return a copy of a batch's row. If the user named a run, the copy has this run instead of the recorded one."""
    changed = dict(row)
    for result, run_id in (
        ("snapshot_result", reference.dataset_run_id),
        ("training_result", reference.model_run_id),
    ):
        if run_id is not None and run_id != (row[result] or {}).get("run_id"):
            changed[result] = {"run_id": run_id}
    return changed


def _unknown_batch(reference: Reference, mlflow: "_Mlflow") -> Document:
    """Return a row for a batch that PostgreSQL does not know, made from the tags of the batch's run in MLflow."""
    run = mlflow.run(reference.model_run_id) or mlflow.run(reference.dataset_run_id)
    tags = {} if run is None else run.data.tags
    name = "" if run is None else run.info.run_name
    return {
        "batch_id": int(tags[Tag.BATCH_ID]) if Tag.BATCH_ID in tags else None,
        "batch_name": name.removeprefix(dataset_name("")).removeprefix(model_run_name("")) or None,
        "seal": tags.get(Tag.BATCH_SEAL),
        "snapshot_result": {"run_id": reference.dataset_run_id},
        "training_result": {"run_id": reference.model_run_id},
        "known": False,
    }


def _batch(row: Document, source: Document | None, mlflow: "_Mlflow | None" = None) -> Document:
    """Return the part of the lineage about one batch. It includes the batch's dataset and model if `mlflow` is given.

    `source` describes the source files of the first load. The key `files` lists only the other source files of this batch, such
    as the file of a correction.
    """
    return {
        **{name: row.get(name) for name in _BATCH},
        "known": row.get("known", True),
        "files": [file for file in _files(row.get("source")) if file not in _files(source)],
        "dataset": None if mlflow is None else _dataset(row, mlflow),
    }


def _dataset(row: Document, mlflow: "_Mlflow") -> Document:
    result = row["snapshot_result"] or {}
    run = mlflow.run(result.get("run_id"))
    tags, params = ({}, {}) if run is None else (run.data.tags, run.data.params)
    rows = params.get("total_rows", result.get("total_rows"))
    return {
        "name": dataset_name(row["batch_name"] or "?"),
        "state": row.get("snapshot_state"),
        "error": row.get("snapshot_error"),
        "run_id": result.get("run_id"),
        "run_status": mlflow.status(result.get("run_id")),
        "rows": None if rows is None else int(rows),
        "sha256": tags.get(Tag.DATASET_SHA256, result.get("dataset_sha256")),
        "digest": tags.get(Tag.DATASET_DIGEST),
        "model": _model(row, mlflow),
    }


def _model(row: Document, mlflow: "_Mlflow") -> Document:
    result = row["training_result"] or {}
    run = mlflow.run(result.get("run_id"))
    scores = result if run is None else run.data.metrics
    return {
        "name": model_run_name(row["batch_name"] or "?"),
        "state": row.get("training_state"),
        "error": row.get("training_error"),
        "run_id": result.get("run_id"),
        "run_status": mlflow.status(result.get("run_id")),
        "dataset_run_id": None if run is None else run.data.tags.get(Tag.DATASET_RUN_ID),
        "metrics": {name: scores[name] for name in _METRICS if name in scores},
        "versions": mlflow.versions(result.get("run_id")),
    }


class _Mlflow:
    """A reader of runs and model versions in MLflow. If MLflow is unavailable once, the reader sends no more requests."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        self._runs: dict[str, Run | None] = {}
        self.problem: str | None = None

    def run(self, run_id: str | None) -> Run | None:
        """Return a run, even a deleted one. None means that MLflow has no such run, or is unavailable."""
        if run_id is None:
            return None
        if run_id not in self._runs:
            self._runs[run_id] = self._call(partial(self._tracking.run_if_any, run_id), None)
        return self._runs[run_id]

    def status(self, run_id: str | None) -> str | None:
        """Return MLflow's status of a run, or DELETED, MISSING, UNKNOWN or SUPERSEDED.

        MISSING means that MLflow has no such run, UNKNOWN that MLflow is unavailable, and SUPERSEDED that PostgreSQL has
        recorded another run in its place.
        """
        if run_id is None:
            return None
        run = self.run(run_id)
        if self.problem is not None:
            return "UNKNOWN"
        if run is None:
            return "MISSING"
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            return "DELETED"
        return "SUPERSEDED" if Tag.SUPERSEDED in run.data.tags else str(run.info.status)

    def versions(self, run_id: str | None) -> list[Document]:
        """Return the name, number and aliases of each registered model version that comes from a run."""
        client = self._tracking.client
        versions: list[ModelVersion] = []
        if run_id is not None:
            versions = self._call(partial(versions_of, self._tracking, run_id), [])
        aliases: dict[str, str] = {}
        if versions:
            model = self._tracking.registered_model
            aliases = self._call(lambda: client.get_registered_model(model).aliases, {})
        return [
            {
                "name": self._tracking.registered_model,
                "version": int(version.version),
                "aliases": sorted(alias for alias, target in aliases.items() if target == version.version),
            }
            for version in versions
        ]

    def _call(self, request: Callable[[], _T], default: _T) -> _T:
        if self.problem is not None:
            return default
        try:
            return request()
        except Exception as error:
            if (outage := outage_of(error)) is None:
                raise
            self.problem = outage.message
            return default
