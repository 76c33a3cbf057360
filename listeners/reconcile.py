"""Find the differences between MLflow and PostgreSQL, and repair them when a listener starts. `rakuten doctor` reports them.

MLflow and PostgreSQL commit separately, and each can change without the other. For example, somebody deletes a run or
restores a database, or a listener is killed between the two commits. PostgreSQL says which runs should exist. A repair either
changes MLflow to match PostgreSQL, or lets the stage do its work again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
import structlog
from mlflow.entities import Run
from psycopg.rows import TupleRow, class_row

from db.connect import connect
from db.sql import query
from listeners.job import Task
from listeners.promotion.champion_alias import champion_alias
from listeners.snapshot.copies import make_missing_copies
from listeners.tracking.ownership import own_names
from listeners.tracking.registry import versions_of
from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag

logger = structlog.get_logger()

_EXPERIMENT_OF = {Stage.SNAPSHOT: DATASET_EXPERIMENT, Stage.TRAINING: MODEL_EXPERIMENT}


class Mismatch(StrEnum):
    """The kinds of difference between MLflow and PostgreSQL."""

    MISSING = "recorded run is missing in MLflow"
    UNREGISTERED = "recorded model is not registered"
    SUPERSEDED = "finished run that is not the recorded one"
    ABANDONED = "run of a dead attempt"
    ORPHANED = "run of an unknown batch"


REMEDY = {
    Mismatch.MISSING: "restart the listener: it builds the run again, with the same result",
    Mismatch.UNREGISTERED: "restart the listener: it registers the model again",
    Mismatch.SUPERSEDED: "restart the listener: it marks the run as superseded",
    Mismatch.ABANDONED: "restart the listener: it closes the run",
    Mismatch.ORPHANED: "after a restore of PostgreSQL: rakuten orphans --supersede; if it is another database's, leave it",
}


@dataclass(frozen=True)
class Disagreement:
    """An MLflow run on which MLflow and PostgreSQL differ. `batch_name` is empty if PostgreSQL has no batch for the run."""

    kind: Mismatch
    stage: Stage
    run_id: str
    batch_id: int
    batch_name: str


@dataclass(frozen=True)
class _RecordedBatch:
    batch_id: int
    batch_name: str
    seal: str
    state: str
    attempts: int
    run_id: str | None
    model_version: int | None


def handle(task: Task) -> dict[str, Any]:
    """Repair the differences between MLflow and PostgreSQL. Return how many differences of each kind were found.

    Orphaned runs, whose batch PostgreSQL does not have, are counted but not repaired.
    """
    tracking = Tracking(task.settings)
    found: dict[str, int] = {}
    with connect(task.conninfo, f"rakuten {task.stage} reconcile", autocommit=True) as connection:
        own_names(tracking, connection)
        if task.stage is Stage.TRAINING:
            with champion_alias(tracking, task.conninfo):
                pass  # this completes or undoes a move that was interrupted, and records in PostgreSQL what is not recorded
        for disagreement in disagreements(tracking, connection, task.stage):
            found[disagreement.kind] = found.get(disagreement.kind, 0) + 1
            # Do not log each orphaned run (a run whose batch PostgreSQL does not have): there may be many, and every start of a
            # listener would log all of them again. Log their number below.
            if disagreement.kind is not Mismatch.ORPHANED:
                logger.warning(
                    "repairing a difference between MLflow and PostgreSQL",
                    finding=disagreement.kind,
                    run_id=disagreement.run_id,
                    batch_id=disagreement.batch_id,
                )
            _repair(disagreement, tracking, connection)
        if task.stage is Stage.SNAPSHOT:
            make_missing_copies(tracking, connection, task.settings.snapshots_path)
    if Mismatch.ORPHANED in found:
        logger.warning(
            "MLflow has runs whose batches do not exist in PostgreSQL",
            runs=found[Mismatch.ORPHANED],
            remedy="rakuten doctor",
        )
    return found


def disagreements(
    tracking: Tracking, connection: psycopg.Connection[TupleRow], stage: Stage
) -> Iterator[Disagreement]:
    """Yield each run of a stage on which MLflow and PostgreSQL differ. Workers may start and finish runs meanwhile.

    MLflow is read first and PostgreSQL second. If a run is unfinished in MLflow, and PostgreSQL then says that the run's
    attempt is over, no worker will finish the run from now on. But a worker may have finished the run between the two reads. So
    the run is read from MLflow again before it is yielded.
    """
    runs = tracking.runs(_EXPERIMENT_OF[stage], Tag.BATCH_ID)
    with connection.cursor(row_factory=class_row(_RecordedBatch)) as cursor:
        batches = cursor.execute(query("stages/recorded_runs"), {"stage": stage}).fetchall()
    known = {batch.seal: batch for batch in batches}
    for run in runs:
        batch = known.get(run.data.tags.get(Tag.BATCH_SEAL, ""))
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


def _kind_of(run: Run, batch: _RecordedBatch, tracking: Tracking) -> Mismatch | None:
    run_id = run.info.run_id
    if run.info.status == "FINISHED":
        is_superseded = batch.state == "finished" and batch.run_id != run_id
        return Mismatch.SUPERSEDED if is_superseded else None
    is_running = batch.state == "running" and run.data.tags.get(Tag.ATTEMPT) == str(batch.attempts)
    if is_running or tracking.client.get_run(run_id).info.status != "RUNNING":
        return None
    return Mismatch.ABANDONED


def _is_registered(tracking: Tracking, batch: _RecordedBatch) -> bool:
    versions = versions_of(tracking, str(batch.run_id))
    return any(int(version.version) == batch.model_version for version in versions)


def _repair(disagreement: Disagreement, tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> None:
    match disagreement.kind:
        case Mismatch.MISSING | Mismatch.UNREGISTERED:
            _reopen(disagreement, connection)
        case Mismatch.SUPERSEDED | Mismatch.ABANDONED:
            tracking.supersede(disagreement.run_id)
            # Meanwhile, another worker may have recorded this run. Then the stage works on the batch again.
            _reopen(disagreement, connection)
        case Mismatch.ORPHANED:
            pass  # the run may belong to another pipeline: only a person can decide whether to delete it


def _reopen(disagreement: Disagreement, connection: psycopg.Connection[TupleRow]) -> None:
    """Let the stage work on the batch again, if PostgreSQL has recorded this run for the batch."""
    connection.execute(
        "select reopen_stage(%s, %s, %s, %s)",
        [disagreement.batch_id, disagreement.stage, disagreement.run_id, disagreement.kind],
    )
