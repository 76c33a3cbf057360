"""Load the next week's training rows into PostgreSQL.

Each run raises PostgreSQL by one week: to the next percentage of the training rows, or to the first one.
Airflow does nothing else. When a batch completes, PostgreSQL notifies the listeners, and they build the dataset and the model.

| what | where to look |
|---|---|
| rows, percentage, batch id, seconds | the log of each task, and its XCom |
| every batch so far, and what the listeners made of it | `select * from pipeline_status`, or `rakuten status` |
| why a batch failed | the task's log, or `load_error` in `pipeline_status` |

**Un-pausing loads a week at once.** Airflow then runs the last scheduled moment that was missed, although `catchup` is off.
That is intended: a run loads *the next week*, whatever its logical date, so the first run after un-pausing loads week 1, or
whichever is next. Weeks that were missed while the DAG was paused are not made up for; trigger a run for each to hurry.

**A week by hand.** Trigger with `week`: the next week is loaded, a complete one is skipped, a later one is refused.

**At the end** (`MAX_PERCENTAGE` is loaded) every run skips.

**After a failure.** Each task retries, and each can be repeated at any point: rows arrive all or none, once. Bad input (source
files, settings, parameters) fails at once, as no retry can mend it. A batch that fails its validation fails at once, too: put
right what the log names, then clear `load_increment` with its downstream tasks, which takes the same batch up again (or trigger
a new run, which does the same). Clearing a run from `check_current_state` on is the same as a new run: it loads the next week.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
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

# ruff: noqa: G004, PLC0415  log lines read best as one sentence; a DAG file is parsed often, so tasks import what they need

log = logging.getLogger(__name__)

_quoted = partial(quote, safe="")

settings: Final = read_settings()  # once per parse; every task is parsed in a process of its own

products = Asset(
    name="rakuten_products",
    uri=f"postgres://{_quoted(settings.postgres_host or 'localhost')}:{settings.postgres_port}"
    f"/{_quoted(settings.postgres_db)}/public/products",
    extra={"meaning": "the training rows in PostgreSQL; one event a completed batch"},
)


@task(task_display_name="Check the current state")
def check_current_state() -> dict[str, Any]:
    """Reads and checks the source files, and finds the week to load.

    **Skips** the run when everything is loaded, or the week asked for is complete.
    **Fails without retrying** when the source files are malformed or have changed, or when the week asked for is not the next.
    """
    with _loader() as connection:
        training_set = _read_training_set()
        plan = _plan(connection, training_set, get_current_context()["params"]["week"])
    log.info(
        f"{plan.batch_name} is next: {plan.new_rows} new rows raise PostgreSQL from {plan.first_rank} to {plan.end_rank} "
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
    """Claims the batch in `data_loads` and sends the week's new rows, all in one transaction.

    Repeating it is safe: rows that are there already are left alone, and a batch that is complete is **skipped**.
    """
    from db.load import steps

    with _loader() as connection, _reported(connection) as run:
        # The plan is made again, not handed over: it vouches for the files that are read here.
        training_set = _read_training_set()
        plan = _plan(connection, training_set, batch["week"])
        result = steps.load_increment(connection, plan, training_set, on_claim=run.started)
    log.info(
        f"batch {result.batch_id} ({plan.batch_name}): {result.rows} rows sent, {result.products_written} products and "
        f"{result.labels_written} labels written in {result.seconds:.2f} s"
    )
    return {**batch, "batch_id": result.batch_id, "new_rows": result.rows}


@task(task_display_name="Validate what was loaded")
def validate_data_load(batch: dict[str, Any]) -> dict[str, Any]:
    """Compares what `products` and `labels` hold with what the batch promised.

    **Fails without retrying** when they differ; the batch is then 'failed', and nobody builds a dataset from it. Put right
    what the log names, then clear `load_increment` with its downstream tasks.
    """
    from db.load import steps

    with _step_of(batch) as connection:
        counts = steps.validate_data_load(connection, batch["batch_id"])
    log.info(
        f"batch {batch['batch_id']} ({batch['batch_name']}) is as promised: {counts['held_rows']} of {batch['target_rows']} "
        f"rows held, {counts['deleted_rows']} deleted on record, {counts['excess_rows']} beyond, "
        f"{counts['unlabelled_rows']} without a label; products holds {counts['total_rows']} rows ({batch['percentage']:g} %)"
    )
    return {**batch, "total_rows": counts["total_rows"]}


@task(task_display_name="Complete the batch", outlets=[products])
def complete_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """Seals the batch. In the same commit PostgreSQL notifies the listeners, on the channel `batch_completed`.

    Repeating it is safe: a complete batch stays as it is, and is announced once.
    """
    from db.load import steps

    with _step_of(batch) as connection:
        steps.complete_batch(connection, batch["batch_id"])
    facts = ("batch_id", "week", "percentage", "new_rows", "total_rows")
    get_current_context()["outlet_events"][products].extra = {name: batch[name] for name in facts}
    log.info(
        f"batch {batch['batch_id']} ({batch['batch_name']}) is complete: {batch['new_rows']} new rows, "
        f"{batch['total_rows']} in all ({batch['percentage']:g} %)"
    )
    return batch


@task(task_display_name="Report the notification")
def send_notification(batch: dict[str, Any]) -> dict[str, Any]:
    """Reports what was sent, who heard it and what waits. PostgreSQL has sent it already, with the batch's commit.

    A listener that is not connected is a warning, not a failure: it reads what waits for it when it starts.
    """
    from db import batches

    with _loader() as connection:
        (status,) = (
            row for row in batches.pipeline_status(connection) if row["batch_id"] == batch["batch_id"]
        )
        listening = batches.listening_stages(connection)
        pending = {stage: batches.pending_batches(connection, stage) for stage in Stage}
    sent_at = status["completed_at"].isoformat(timespec="milliseconds")
    log.info(f"batch_completed for batch {batch['batch_id']} was sent with its commit at {sent_at}")
    log.info(
        f"{status['batch_name']}: {status['total_rows']} rows ({float(status['percentage']):g} %), "
        f"snapshot {status['snapshot_state']}, training {status['training_state']}"
    )
    for stage in Stage:
        waiting = pending[stage]
        log.info(f"waiting for {stage}: {len(waiting)} ({', '.join(waiting) or 'none'})")
        if stage in listening:
            log.info(f"the {stage} listener is connected")
        else:
            log.warning(f"no {stage} listener is connected: it takes up what waits when it starts")
    return {"batch_id": batch["batch_id"], "listening": sorted(listening), "pending": pending}


@contextmanager
def _loader() -> Iterator["Connection"]:
    """A connection that may load, and nothing else. The audit trail keeps the task's name."""
    from db.database import Role, open_database

    with open_database(settings) as database, database.connect(Role.LOADER, _application()) as connection:
        yield connection


@contextmanager
def _reported(connection: "Connection", batch_id: int | None = None) -> Iterator["LoadRun"]:
    """OpenLineage events of the steps in the block: the tables say how far the batch is, so each task tells its part."""
    from db.load.openlineage_events import emit_load_events

    with emit_load_events(connection, settings, batch_id) as run:
        yield run


def _application() -> str:
    return f"airflow {get_current_context()['ti'].task_id}"


def _read_training_set() -> "TrainingSet":
    from db.source.training_set import read_training_set

    return read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)


def _plan(connection: "Connection", training_set: "TrainingSet", week: int | None) -> "LoadPlan":
    """The plan of the next week, which is to be `week` unless that is None.

    Raises:
        AirflowSkipException: nothing is left to load, or that week is complete.
        BadInputError: that week is not next.
    """
    from db.load import steps

    plan = steps.check_current_state(connection, settings, training_set)
    if plan is None:
        raise AirflowSkipException(
            f"nothing to load: PostgreSQL holds {settings.max_percentage} % of {training_set.total_rows:,} "
            f"training rows, week {settings.last_week} was the last"
        )
    if week is not None and week < plan.week:
        raise AirflowSkipException(f"nothing to load: week {week} is complete, week {plan.week} is next")
    if week is not None and week > plan.week:
        raise BadInputError(
            f"week {week} cannot be loaded yet: week {plan.week} is next",
            remedy=f"trigger a run for week {plan.week}, or leave the week empty",
        )
    return plan


@contextmanager
def _step_of(batch: dict[str, Any]) -> Iterator["Connection"]:
    """Connect for a step of a claimed batch. A failure is retried only while the batch is 'running'."""
    try:
        with _loader() as connection, _reported(connection, batch["batch_id"]):
            yield connection
    except LoadError as error:
        with _loader() as connection:
            row = connection.execute(
                "select status from data_loads where id = %s", [batch["batch_id"]]
            ).fetchone()
        status = row[0] if row else "unknown"
        if status == "completed":
            raise AirflowSkipException(f"{batch['batch_name']} is complete and does not change") from error
        if status == "failed":
            raise AirflowFailException(
                f"{error}\n  in Airflow: clear load_increment with its downstream tasks; it takes batch "
                f"{batch['batch_id']} up again"
            ) from error
        raise


@dag(
    dag_id="weekly_ml_pipeline",
    description="Raises PostgreSQL to the next percentage of the training rows; the listeners do the rest",
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
            description="Leave empty to load the next week. A week that is complete is skipped; only the next can be loaded.",
        )
    },
    default_args={
        "owner": "rakuten",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": ExceptionRetryPolicy(
            [RetryRule(BadInputError, RetryAction.FAIL, reason="bad input: no retry can mend it")]
        ),
        "execution_timeout": timedelta(hours=1),
    },
)
def weekly_ml_pipeline() -> None:
    batch: Any = check_current_state()  # here the promise of a value, in the next task the value
    batch = load_increment(batch)
    batch = validate_data_load(batch)
    batch = complete_batch(batch)
    send_notification(batch)


pipeline = weekly_ml_pipeline()
for operator in pipeline.tasks:
    # else the UI shows what is indented as code; only a mapped task's is read-only, and none is mapped
    operator.doc_md = cleandoc(operator.doc_md or "")  # type: ignore[misc]
