"""Read from PostgreSQL the state of the batches, the batches that wait for a stage, and the problems of the pipeline."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row

from db.sql import query
from shared.batch import Batch
from shared.errors import BadInputError

Connection = psycopg.Connection[Any]

_NAMES_SHOWN: Final = 12


def read_batch(connection: Connection, batch_id: int) -> Batch:
    """Return the current state of a batch.

    Raises:
        LookupError: no batch has this id.
    """
    with connection.cursor(row_factory=class_row(Batch)) as cursor:
        batch = cursor.execute(query("batches/batch"), {"batch_id": batch_id}).fetchone()
    if batch is None:
        raise LookupError(f"batch {batch_id} does not exist")
    return batch


def find_batch(connection: Connection, name: str) -> Batch:
    """Find a completed batch by its own name, or by the name of its dataset or model.

    For example, `week_7`, `7`, `train_week_7` and `model_week_7` all mean the batch `week_7`.

    Raises:
        BadInputError: no batch has this name, or the batch is not complete. The error's remedy names completed batches.
    """
    batch_name = re.sub("^(train|model)_", "", name.strip())
    if re.fullmatch("[0-9]+", batch_name, re.ASCII):
        batch_name = f"week_{int(batch_name)}"
    status_of = {
        row["batch_name"]: (row["id"], row["status"])
        for row in rows(connection, "select id, batch_name, status from batches order by id")
    }
    batch_id, status = status_of.get(batch_name, (None, None))
    if batch_id is not None and status == "completed":
        return read_batch(connection, batch_id)
    complete = [name for name, (_id, status) in status_of.items() if status == "completed"]
    raise BadInputError(
        f"there is no batch {batch_name!r}"
        if status is None
        else f"{batch_name} is not complete: it is {status!r}",
        remedy=f"choose one of {_join_names(complete)}" if complete else "load one first: rakuten load",
    )


def _join_names(names: list[str]) -> str:
    """Join the names with commas. Shorten a list of more than 12 names to the first four and the last four."""
    return ", ".join(names if len(names) <= _NAMES_SHOWN else [*names[:4], "...", *names[-4:]])


def pipeline_status(connection: Connection) -> list[dict[str, Any]]:
    """Return the rows of the view `pipeline_status`: one row per batch, oldest batch first."""
    return rows(connection, "select * from pipeline_status")


def stage_ledger(connection: Connection) -> list[dict[str, Any]]:
    """Return the rows of the view `stage_ledger`: one row for each stage of each completed batch, oldest batch first."""
    return rows(connection, "select * from stage_ledger")


def rows(
    connection: Connection, statement: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None
) -> list[dict[str, Any]]:
    """Run an SQL statement and return its rows, each as a dictionary from column name to value."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode(), parameters).fetchall()


def pending_batches(connection: Connection, stage: str) -> list[str]:
    """Return the names of the batches that wait for a stage (snapshot or training), oldest batch first."""
    return [row["batch_name"] for row in rows(connection, "select * from pending_batches(%s)", [stage])]


def failed_stages(connection: Connection) -> list[tuple[int, str, str]]:
    """Return (batch id, batch name, stage) for each stage that has given up a batch after too many failures."""
    return [
        (row["batch_id"], row["batch_name"], stage)
        for row in pipeline_status(connection)
        for stage in ("snapshot", "training")
        if row[f"{stage}_state"] == "failed"
    ]


def listening_stages(connection: Connection) -> set[str]:
    """Return the stages (snapshot, training) whose listener is connected to PostgreSQL now."""
    return {row["stage"] for row in rows(connection, "select * from listener_sessions()")}


def champion_version(connection: Connection) -> int | None:
    """Return the version of the present champion, or None before the first one."""
    return next((row["version"] for row in rows(connection, "select version from champion")), None)


def listening_application(stage: str) -> str:
    """Return the application_name with which a stage's listener connects, for example `rakuten snapshot listen`."""
    return f"rakuten {stage} listen"


def pipeline_doctor(
    connection: Connection,
    *,
    patience: timedelta = timedelta(minutes=5),
    unresponsive_after: timedelta = timedelta(seconds=30),
) -> list[dict[str, Any]]:
    """Return the current problems of the pipeline, as rows with severity, finding, subject, detail and remedy.

    Args:
        connection: a connection with the database role reader, loader or snapshot.
        patience: how long a batch may wait for a stage, or a load may run, before this is reported as a problem.
        unresponsive_after: how long the connection of a listener may be inactive before this is reported as a problem.
    """
    return rows(connection, "select * from pipeline_doctor(%s, %s)", [patience, unresponsive_after])


def retry_stage(connection: Connection, batch_id: int, stage: str) -> bool:
    """Let a stage retry a batch that the stage gave up after too many failures.

    Return False if the stage had not given up the batch.
    """
    [(was_given_up,)] = connection.execute("select retry_stage(%s, %s)", [batch_id, stage]).fetchall()
    return bool(was_given_up)
