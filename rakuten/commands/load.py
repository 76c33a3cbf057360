"""`rakuten load`: what Airflow does each week, by hand."""

import json
from collections.abc import Callable
from typing import Any

import typer

from db.connect import connect
from db.database import Role, open_database
from db.load import steps
from db.load.openlineage_events import reported
from db.load.writing import Connection
from db.source.training_set import TrainingSet, read_training_set
from shared.config import Settings, read_settings
from shared.errors import BadInputError
from shared.openlineage.emitter import Emitter


def load(
    week: int | None = typer.Option(None, help="load up to this week; by default the next one only", min=1),
    as_json: bool = typer.Option(False, "--json", help="one JSON object a week"),
) -> None:
    """Raise PostgreSQL to the next percentage of the training rows: check, load, validate, complete."""
    settings = read_settings()
    if week is not None and week > settings.last_week:
        raise BadInputError(
            f"there is no week {week}: week {settings.last_week} reaches {settings.max_percentage} %",
            remedy=f"choose a week from 1 to {settings.last_week}",
        )
    loaded = 0
    with (
        open_database(settings) as database,
        connect(database.conninfo(Role.LOADER), "rakuten load") as connection,
        Emitter(settings) as emitter,
    ):
        training_set = read_training_set(
            settings.data_path, settings.random_seed, settings.holdout_percentage
        )
        while True:
            with reported(connection, emitter) as run:
                report = load_week(connection, settings, training_set, up_to=week, on_claim=run.started)
            if report is None:
                break
            loaded += 1
            typer.echo(json.dumps(report) if as_json else _sentence(report))
            if week is None:
                break
    if not loaded and not as_json:
        reached = (
            f"week {week} is complete" if week else f"PostgreSQL holds {settings.max_percentage} % already"
        )
        typer.echo(f"nothing to load: {reached}")


def load_week(
    connection: Connection,
    settings: Settings,
    training_set: TrainingSet,
    *,
    up_to: int | None = None,
    on_claim: Callable[[int], None] = steps.tell_nobody,
) -> dict[str, Any] | None:
    """The next week's four steps; None when nothing is left to load, or nothing up to that week."""
    plan = steps.check_current_state(connection, settings, training_set)
    if plan is None or (up_to is not None and plan.week > up_to):
        return None
    result = steps.load_increment(connection, plan, training_set, on_claim=on_claim)
    counts = steps.validate_data_load(connection, result.batch_id)
    steps.complete_batch(connection, result.batch_id)
    return {
        "batch_id": result.batch_id,
        "batch_name": plan.batch_name,
        "week": plan.week,
        "percentage": float(plan.percentage),
        "new_rows": result.rows,
        "total_rows": counts["total_rows"],
        "seconds": result.seconds,
    }


def _sentence(report: dict[str, Any]) -> str:
    return (
        f"{report['batch_name']}: {report['new_rows']:,} new rows in {report['seconds']:.2f} s, "
        f"{report['total_rows']:,} in all ({report['percentage']:g} %), batch {report['batch_id']} completed"
    )
