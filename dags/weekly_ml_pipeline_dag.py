"""Load the next week's training rows into PostgreSQL.

Each run loads one week. After it, PostgreSQL holds the week's percentage of the training rows (for example 40 % after week 1,
43 % after week 2). When the week's batch is complete, PostgreSQL notifies the listeners, which build a dataset and a model.

| what | where to look |
|---|---|
| rows, percentage, batch id, seconds | the log of each task, and its XCom |
| every batch so far, with its dataset and model | `select * from pipeline_status`, or `rakuten status` |
| why a batch failed | the task's log, or `load_error` in `pipeline_status` |

**Un-pausing loads one week immediately.** Airflow then starts a run for the last scheduled time that was missed, although
`catchup` is off. This is intended: each run loads *the next week* that is not loaded yet. The logical date does not matter.
Airflow does not make up for other runs that it missed while the DAG was paused. To catch up faster, trigger a run per week.

**A week by hand.** Trigger a run with the parameter `week`. If this week is the next one, the run loads it. If it is
loaded already, Airflow skips the run. If it is a later one, the run fails.

**At the end.** When `MAX_PERCENTAGE` of the training rows is loaded, Airflow skips every further run.

**After a failure.** Airflow retries each task, and you can repeat each task at any time: it writes all its rows once, or none.
Bad input (source files, settings, parameters) fails without a retry, and so does a failed validation. Correct what the log
names, then clear `load_increment` with its downstream tasks, or trigger a new run. Both continue with the batch that failed,
because its week is still the next one.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.sdk import (
    Asset,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    dag,
    get_current_context,
    task,
)
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from shared.config import read_settings
from shared.errors import BadInputError, LoadError
from shared.events import Stage

if TYPE_CHECKING:
    from db.load.openlineage_events import LoadRun
    from db.load.steps import LoadPlan
    from db.load.writing import Connection
    from db.source.training_set import TrainingSet

# ruff: noqa: G004, PLC0415  an f-string keeps a log line readable; Airflow parses this file often, so tasks import their modules

log = logging.getLogger(__name__)

settings: Final = read_settings()  # each task reads them anew, because its process parses this file anew
_address = (*settings.postgres_address, settings.postgres_db)
products = Asset(
    name="rakuten_products",
    uri="postgres://{}:{}/{}/public/products".format(*(quote(part, safe="") for part in _address)),
    extra={"meaning": "the training rows in PostgreSQL; one event per completed batch"},
)


@task(task_display_name="Check the current state")
def check_current_state() -> dict[str, Any]:
    """Read and check the source files, and find the week to load.

    The task **skips** the run if no week is left to load, or if the requested week (the parameter `week`) is complete.
    It **fails without a retry** if the source files are malformed or differ from those of the first load, or if weeks before
    `week` are missing.
    """
    with _loader() as connection:
        plan, _training_set = _plan(connection, get_current_context()["params"]["week"])
    log.info(
        f"{plan.batch_name} is next: its {plan.new_rows} new rows raise the total from {plan.first_rank} to {plan.end_rank} "
        f"of {plan.total_rows} training rows ({float(plan.percentage):g} %)"
    )
    return {
        "batch_name": plan.batch_name,
        "week": plan.week,
        "percentage": float(plan.percentage),
        "target_rows": plan.end_rank,
    }


@task(task_display_name="Load the week's rows")
def load_increment(batch: dict[str, Any]) -> dict[str, Any]:
    """Claim the week's batch (its row in `data_loads`), then send all new rows of the week in one transaction.

    A repeated task does not change rows that are already loaded. If the batch is already complete, the task is **skipped**.
    """
    from db.load import steps

    with _loader() as connection, _reported(connection) as run:
        # This task reads the source files again. They may have changed since check_current_state, so the task also plans again.
        plan, training_set = _plan(connection, batch["week"])
        result = steps.load_increment(connection, plan, training_set, on_claim=run.started)
    log.info(
        f"batch {result.batch_id} ({plan.batch_name}): {result.rows} rows sent, {result.products_written} products and "
        f"{result.labels_written} labels written in {result.seconds:.2f} s"
    )
    return {**batch, "batch_id": result.batch_id, "new_rows": result.rows}


@task(task_display_name="Validate what was loaded")
def validate_data_load(batch: dict[str, Any]) -> dict[str, Any]:
    """Check that `products` has every row up to this week and no row of a later week, and that each row has a label.

    If not, the task **fails without a retry**. The batch is then 'failed', and no listener builds a dataset from it.
    Correct the rows that the task's log describes, then clear `load_increment` with its downstream tasks.
    """
    from db.load import steps

    with _step_of(batch) as connection:
        counts = steps.validate_data_load(connection, batch["batch_id"])
    log.info(
        f"batch {batch['batch_id']} ({batch['batch_name']}) is valid: of the {batch['target_rows']} rows up to this week, "
        f"{counts['held_rows']} are in products and {counts['deleted_rows']} were deleted after loading; products has "
        f"{counts['total_rows']} rows in all"
    )
    return {**batch, "total_rows": counts["total_rows"]}


@task(task_display_name="Complete the batch", outlets=[products])
def complete_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """Complete the batch and seal it. The seal is a digest of the batch and of the previous batch's seal.

    The commit notifies the listeners (channel `batch_completed`). If the task is repeated, it does not notify them again.
    """
    from db.load import steps

    with _step_of(batch) as connection:
        steps.complete_batch(connection, batch["batch_id"])
    facts = ("batch_id", "week", "percentage", "new_rows", "total_rows")
    get_current_context()["outlet_events"][products].extra = {name: batch[name] for name in facts}
    log.info(
        f"batch {batch['batch_id']} ({batch['batch_name']}) is complete: {batch['new_rows']} new rows, "
        f"products has {batch['total_rows']} rows, {batch['percentage']:g} % of the training rows"
    )
    return batch


@task(task_display_name="Report the notification")
def send_notification(batch: dict[str, Any]) -> dict[str, Any]:
    """Log the time of PostgreSQL's notification, the listeners that are connected, and the batches that wait for each listener.

    A listener that is not connected causes only a warning, because it finds the waiting batches when it starts.
    """
    from db import batches

    with _loader() as connection:
        (status,) = (
            row for row in batches.pipeline_status(connection) if row["batch_id"] == batch["batch_id"]
        )
        listening = batches.listening_stages(connection)
        pending = {stage: batches.pending_batches(connection, stage) for stage in Stage}
    sent_at = status["completed_at"].isoformat(timespec="milliseconds")
    log.info(f"PostgreSQL sent the notification batch_completed for batch {batch['batch_id']} at {sent_at}")
    log.info(
        f"{status['batch_name']}: {status['total_rows']} rows, {float(status['percentage']):g} % of the training rows; "
        f"state of the snapshot stage: {status['snapshot_state']}, of the training stage: {status['training_state']}"
    )
    for stage in Stage:
        waiting = pending[stage]
        log.info(f"batches waiting for the {stage} listener: {len(waiting)} ({', '.join(waiting) or 'none'})")
        if stage in listening:
            log.info(f"the {stage} listener is connected to PostgreSQL")
        else:
            log.warning(f"no {stage} listener is connected to PostgreSQL: its batches wait until one starts")
    return {"batch_id": batch["batch_id"], "listening": sorted(listening), "pending": pending}


@contextmanager
def _loader() -> Iterator["Connection"]:
    """Connect to PostgreSQL with the loader's role. The audit trail records each change with the name of the Airflow task."""
    from db.database import Role, open_database

    application = f"airflow {get_current_context()['ti'].task_id}"
    with open_database(settings) as database, database.connect(Role.LOADER, application) as connection:
        yield connection


@contextmanager
def _reported(connection: "Connection", batch_id: int | None = None) -> Iterator["LoadRun"]:
    """Send the OpenLineage events of the load steps that run inside the `with` block."""
    from db.load.openlineage_events import emit_load_events
    from shared.openlineage.emitter import Emitter

    with Emitter(settings) as emitter, emit_load_events(connection, emitter, batch_id) as run:
        yield run


def _plan(connection: "Connection", week: int | None) -> "tuple[LoadPlan, TrainingSet]":
    """Read the source files. Return the plan for loading the next week. If `week` is given, it must be the next week.

    Raises:
        AirflowSkipException: no week is left to load, or `week` is already complete.
        BadInputError: `week` would leave out a week that is not loaded yet.
    """
    from db.load import steps
    from db.source.training_set import read_training_set

    training_set = read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)
    plan = steps.check_current_state(connection, settings, training_set)
    if plan is None:
        raise AirflowSkipException(
            f"nothing to load: PostgreSQL holds {settings.max_percentage} % of {training_set.total_rows:,} "
            f"training rows, and week {settings.last_week} was the last week"
        )
    if week is not None and week < plan.week:
        raise AirflowSkipException(f"nothing to load: week {week} is complete, week {plan.week} is next")
    if week is not None and week > plan.week:
        raise BadInputError(
            f"week {week} cannot be loaded yet: week {plan.week} is next",
            remedy=f"trigger a run for week {plan.week}, or leave the parameter week empty",
        )
    return plan, training_set


@contextmanager
def _step_of(batch: dict[str, Any]) -> Iterator["Connection"]:
    """Connect to PostgreSQL. On LoadError, skip the task of a completed batch, and do not retry the task of a failed batch."""
    try:
        with _loader() as connection, _reported(connection, batch["batch_id"]):
            yield connection
    except LoadError as error:
        with _loader() as connection:
            found = connection.execute("select status from data_loads where id = %s", [batch["batch_id"]])
            (status,) = found.fetchone() or ("unknown",)
        if status == "completed":
            raise AirflowSkipException(f"nothing to do: {batch['batch_name']} is complete") from error
        if status == "failed":
            raise AirflowFailException(
                f"{error}\n  in Airflow: clear load_increment with its downstream tasks, to resume batch "
                f"{batch['batch_id']}"
            ) from error
        raise


def _require_batch(context: Any) -> None:
    """Fail without a retry if the task before left no batch, because somebody has marked it as successful by hand."""
    if None in context["task"].op_args:
        (before,) = context["task"].upstream_task_ids
        reason = f"the task {before} was marked as successful by hand, so it left no batch"
        raise AirflowFailException(f"{reason}\n  remedy: clear {before} with its downstream tasks")


@dag(
    dag_id="weekly_ml_pipeline",
    description="Loads the next week into PostgreSQL; the listeners then build the dataset and the model",
    doc_md=__doc__,
    schedule=settings.airflow_schedule,
    start_date=datetime(2026, 1, 5, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["rakuten", "load"],
    params={
        "week": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=settings.last_week,
            title="Week",
            description="Leave empty to load the next week. A complete week is skipped, and a later week is rejected.",
        )
    },
    default_args={
        "owner": "rakuten",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": ExceptionRetryPolicy(
            [RetryRule(BadInputError, RetryAction.FAIL, reason="bad input: a retry cannot correct it")]
        ),
        "execution_timeout": timedelta(hours=1),
        "pre_execute": _require_batch,
    },
)
def weekly_ml_pipeline() -> None:
    batch: Any = check_current_state()  # a placeholder for the task's result, which Airflow fills in
    batch = load_increment(batch)
    batch = validate_data_load(batch)
    batch = complete_batch(batch)
    send_notification(batch)


pipeline = weekly_ml_pipeline()
for operator in pipeline.tasks:
    # Remove the indent: Airflow's UI shows indented text as code. mypy objects, because a mapped task's doc_md is read-only.
    operator.doc_md = cleandoc(operator.doc_md or "")  # type: ignore[misc]  # this DAG has no mapped tasks
