"""Reading `data_loads`: what each batch has become."""

import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import sqlalchemy
from sqlalchemy import column, func, select, table

from shared.errors import BadInputError

_NAMES_SHOWN: Final = 12


@dataclass(frozen=True)
class Batch:
    """A completed batch, with the columns of `data_loads`."""

    id: int
    batch_name: str
    percentage: Decimal
    total_rows: int
    completed_at: datetime
    metadata: dict[str, Any]


def find_batch(connection: sqlalchemy.Connection, name: str) -> Batch:
    """The completed batch of that name: `week_7`, `7`, `correction_1`; or of its dataset or model: `train_week_7`, `model_week_7`.

    Raises:
        BadInputError: there is none, or it is not complete; the remedy names those that are.
    """
    batch_name = re.sub("^(train|model)_", "", name.strip())
    if re.fullmatch("[0-9]+", batch_name, re.ASCII):
        batch_name = f"week_{int(batch_name)}"
    columns: list[sqlalchemy.ColumnClause[Any]] = [column(field.name) for field in fields(Batch)]
    loads = table("data_loads", *columns, column("status"))
    found = connection.execute(
        select(*columns, loads.c.status).where(loads.c.batch_name == batch_name)
    ).one_or_none()
    if found is not None and found.status == "completed":
        return Batch(*found[:-1])
    complete = list(
        connection.scalars(
            select(loads.c.batch_name).where(loads.c.status == "completed").order_by(loads.c.id)
        )
    )
    raise BadInputError(
        f"there is no batch {batch_name!r}"
        if found is None
        else f"{batch_name} is not complete: it is {found.status!r}",
        remedy=f"choose one of {_shortened(complete)}" if complete else "load one first: rakuten load",
    )


def _shortened(names: list[str]) -> str:
    """All names, or the first and the last of many."""
    return ", ".join(names if len(names) <= _NAMES_SHOWN else [*names[:4], "...", *names[-4:]])


def pipeline_status(connection: sqlalchemy.Connection) -> list[dict[str, Any]]:
    """One row a batch, oldest first, with the columns of the view `pipeline_status`."""
    return _all_of(connection, table("pipeline_status"))


def stage_ledger(connection: sqlalchemy.Connection) -> list[dict[str, Any]]:
    """One row a completed batch and stage, oldest first, with the columns of the view `stage_ledger`."""
    return _all_of(connection, table("stage_ledger"))


def _all_of(connection: sqlalchemy.Connection, relation: sqlalchemy.FromClause) -> list[dict[str, Any]]:
    everything: sqlalchemy.Select[Any] = select(sqlalchemy.literal_column("*")).select_from(relation)
    return [dict(row) for row in connection.execute(everything).mappings()]


def pending_batches(connection: sqlalchemy.Connection, stage: str) -> list[str]:
    """The names of the batches that wait for a stage, oldest first."""
    waiting = func.pending_batches(stage).table_valued("batch_name")
    return list(connection.scalars(select(waiting.c.batch_name)))


def failed_stages(connection: sqlalchemy.Connection) -> list[tuple[int, str, str]]:
    """(batch_id, batch_name, stage) of every stage that gave a batch up."""
    return [
        (row["batch_id"], row["batch_name"], stage)
        for row in pipeline_status(connection)
        for stage in ("snapshot", "training")
        if row[f"{stage}_state"] == "failed"
    ]


def listening_stages(connection: sqlalchemy.Connection) -> set[str]:
    """The stages whose listener is connected: listeners name their connections."""
    rows = connection.execute(
        sqlalchemy.text(
            "select distinct split_part(application_name, ' ', 2) from pg_stat_activity"
            " where datname = current_database() and application_name in :names"
        ).bindparams(sqlalchemy.bindparam("names", expanding=True)),
        {"names": [listening_application(stage) for stage in ("snapshot", "training")]},
    )
    return set(rows.scalars())


def listening_application(stage: str) -> str:
    """The application_name of a stage's LISTEN connection."""
    return f"rakuten {stage} listen"


def pipeline_doctor(
    connection: sqlalchemy.Connection,
    *,
    patience: timedelta = timedelta(minutes=5),
    deaf_after: timedelta = timedelta(seconds=30),
) -> list[dict[str, Any]]:
    """What is wrong right now: rows of severity, finding, subject, detail and remedy.

    Args:
        connection: of the reader, loader or snapshot role.
        patience: how long a batch may wait or a load may run.
        deaf_after: how old a listener's last sign of life may be.
    """
    return _all_of(connection, func.pipeline_doctor(patience, deaf_after))


def retry_stage(connection: sqlalchemy.Connection, batch_id: int, stage: str) -> bool:
    """Revive a stage that gave a batch up; False when it had not."""
    return bool(connection.execute(select(func.retry_stage(batch_id, stage))).scalar_one())
