"""`rakuten load`: load weeks by hand, with the same steps as the Airflow DAG."""

import json
from typing import Any, Final

import typer

from db.database import Role
from db.load.openlineage_events import emit_load_events
from db.load.steps import load_week
from db.source.training_set import read_training_set
from rakuten.console import working
from rakuten.session import open_session, warn_if_nobody_listens
from shared.config import read_settings
from shared.errors import BadInputError
from shared.openlineage.emitter import Emitter

EXAMPLES: Final = ("rakuten load", "rakuten load --week 4 --json")


def load(
    week: int | None = typer.Option(
        None, help="load every missing week up to this one; default: only the next week", min=1
    ),
    as_json: bool = typer.Option(False, "--json", help="print one JSON object per loaded week"),
) -> None:
    """Load the training rows of the next week into PostgreSQL, or of every missing week up to `--week`.

    Each week is one batch, and raises the percentage of the training rows that PostgreSQL holds. Its steps are: check the
    source files, load the new rows, validate the tables, complete the batch.
    """
    settings = read_settings()
    if week is not None and week > settings.last_week:
        raise BadInputError(
            f"there are only {settings.last_week} weeks: after them, {settings.max_percentage} % of the training rows are loaded",
            remedy=f"choose a week from 1 to {settings.last_week}",
        )
    loaded = 0
    with (
        open_session("load", Role.LOADER, settings=settings, autocommit=False, create=True) as session,
        Emitter(settings) as emitter,
    ):
        connection = session.connection
        with working("reading the files"):
            training_set = read_training_set(
                settings.data_path, settings.random_seed, settings.holdout_percentage
            )
        while week is not None or not loaded:
            with working("loading the next week"), emit_load_events(connection, emitter) as run:
                report = load_week(connection, settings, training_set, up_to=week, on_claim=run.started)
            if report is None:
                break
            loaded += 1
            typer.echo(json.dumps(report) if as_json else _sentence(report))
        if loaded:
            warn_if_nobody_listens(settings)
    if not loaded and not as_json:
        reached = (
            f"week {week} is complete" if week else f"{settings.max_percentage} % of the rows are loaded"
        )
        typer.echo(f"nothing to load: {reached}")


def _sentence(report: dict[str, Any]) -> str:
    return (
        f"{report['batch_name']}: {report['new_rows']:,} new rows in {report['seconds']:.2f} s, "
        f"{report['total_rows']:,} in all ({report['percentage']:g} %), batch {report['batch_id']} completed"
    )
