"""What MLflow and PostgreSQL disagree on: found by `rakuten doctor`, found and mended when a listener starts.

The two commit apart, and each can be changed behind the other's back: a run deleted, a database restored, a listener killed
between the two commits. PostgreSQL says what should be; MLflow is brought in line with it, or the work is done once more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg
import structlog
from mlflow.entities import Run
from psycopg.rows import TupleRow, class_row

from db.connect import connect
from db.sql import query
from listeners.job import Task
from listeners.tracking.registry import versions_of
from listeners.tracking.runs import Tracking
from shared.batch import utc_text
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag

logger = structlog.get_logger()

_EXPERIMENT_OF = {Stage.SNAPSHOT: DATASET_EXPERIMENT, Stage.TRAINING: MODEL_EXPERIMENT}


class Mismatch(StrEnum):
    """The ways to disagree."""

    MISSING = "recorded run is missing in MLflow"
    UNREGISTERED = "recorded model is not registered"
    SUPERSEDED = "finished run that is not the recorded one"
    ABANDONED = "run of a dead attempt"
    ORPHANED = "run of an unknown batch"


REMEDY = {
    Mismatch.MISSING: "start the listener again: it builds the run once more, to the same result",
    Mismatch.UNREGISTERED: "start the listener again: it registers the model once more",
    Mismatch.SUPERSEDED: "start the listener again: it marks the run as superseded",
    Mismatch.ABANDONED: "start the listener again: it closes the run",
    Mismatch.ORPHANED: "of another database, or of one before a restore: delete the run in MLflow if it is not wanted",
}


@dataclass(frozen=True)
class Disagreement:
    """One run on which the two differ; the batch's name is empty where PostgreSQL knows no such batch."""

    kind: Mismatch
    stage: Stage
    run_id: str
    batch_id: int
    batch_name: str


@dataclass(frozen=True)
class _Recorded:
    batch_id: int
    batch_name: str
    completed_at: datetime
    state: str
    attempts: int
    run_id: str | None
    model_version: int | None


def handle(task: Task) -> dict[str, Any]:
    """Mend what can be mended; returns how much of each kind was found."""
    tracking = Tracking(task.settings)
    found: dict[str, int] = {}
    with connect(task.conninfo, f"rakuten {task.stage} reconcile", autocommit=True) as connection:
        for disagreement in disagreements(tracking, connection, task.stage):
            found[disagreement.kind] = found.get(disagreement.kind, 0) + 1
            if disagreement.kind is not Mismatch.ORPHANED:  # of which there may be many, at every start
                logger.warning(
                    "mending what MLflow and PostgreSQL disagree on",
                    finding=disagreement.kind,
                    run_id=disagreement.run_id,
                    batch_id=disagreement.batch_id,
                )
            _mend(disagreement, tracking, connection)
    if Mismatch.ORPHANED in found:
        logger.warning(
            "MLflow has runs of unknown batches", runs=found[Mismatch.ORPHANED], remedy="rakuten doctor"
        )
    return found


def disagreements(
    tracking: Tracking, connection: psycopg.Connection[TupleRow], stage: Stage
) -> Iterator[Disagreement]:
    """Where MLflow differs from what PostgreSQL has recorded, while others are at work.

    MLflow is read first and PostgreSQL second: a run that was there before, and whose attempt has ended by then, has nobody
    left. What was still on its way during the first look is looked at again.
    """
    runs = tracking.runs(_EXPERIMENT_OF[stage], Tag.BATCH_ID)
    with connection.cursor(row_factory=class_row(_Recorded)) as cursor:
        batches = cursor.execute(query("stages/recorded_runs"), {"stage": stage}).fetchall()
    known = {(str(batch.batch_id), utc_text(batch.completed_at)): batch for batch in batches}
    for run in runs:
        batch = known.get((run.data.tags[Tag.BATCH_ID], run.data.tags.get(Tag.BATCH_COMPLETED_AT, "")))
        kind = Mismatch.ORPHANED if batch is None else _kind_of(run, batch, tracking)
        if kind is not None:
            batch_id, name = int(run.data.tags[Tag.BATCH_ID]), batch.batch_name if batch else ""
            yield Disagreement(kind, stage, run.info.run_id, batch_id, name)
    finished = {run.info.run_id for run in runs if run.info.status == "FINISHED"}
    for batch in batches:
        if batch.state != "finished" or batch.run_id is None:
            continue
        if batch.run_id not in finished and tracking.valid_run(batch.run_id) is None:
            yield Disagreement(Mismatch.MISSING, stage, batch.run_id, batch.batch_id, batch.batch_name)
        elif batch.model_version is not None and not _is_registered(tracking, batch):
            yield Disagreement(Mismatch.UNREGISTERED, stage, batch.run_id, batch.batch_id, batch.batch_name)


def _kind_of(run: Run, batch: _Recorded, tracking: Tracking) -> Mismatch | None:
    run_id = run.info.run_id
    if run.info.status == "FINISHED":
        is_another = batch.state == "finished" and batch.run_id != run_id
        return Mismatch.SUPERSEDED if is_another else None
    at_work = batch.state == "running" and run.data.tags.get(Tag.ATTEMPT) == str(batch.attempts)
    if at_work or tracking.client.get_run(run_id).info.status != "RUNNING":
        return None
    return Mismatch.ABANDONED


def _is_registered(tracking: Tracking, batch: _Recorded) -> bool:
    versions = versions_of(tracking, str(batch.run_id))
    return any(int(version.version) == batch.model_version for version in versions)


def _mend(disagreement: Disagreement, tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> None:
    match disagreement.kind:
        case Mismatch.MISSING | Mismatch.UNREGISTERED:
            connection.execute(
                "select reopen_stage(%s, %s, %s, %s)",
                [disagreement.batch_id, disagreement.stage, disagreement.run_id, disagreement.kind],
            )
        case Mismatch.SUPERSEDED | Mismatch.ABANDONED:
            tracking.supersede(disagreement.run_id)
        case Mismatch.ORPHANED:
            pass  # it may be another pipeline's: only a person can tell
