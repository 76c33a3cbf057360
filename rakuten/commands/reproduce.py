"""`rakuten reproduce`: build it again, and compare."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from db.connect import connect, engine
from db.database import Role, open_database
from shared.config import configure_third_parties, read_settings
from shared.errors import BadInputError

What = Annotated[
    str,
    typer.Argument(
        metavar="X", help="a batch (week_7), a model's URI (models:/rakuten_classifier/3) or a run id"
    ),
]


def reproduce(
    what: What, as_json: bool = typer.Option(False, "--json", help="a JSON list of verdicts")
) -> None:
    """Rebuild a dataset and its model from the audit trail, in a scratch place. Exit code 1 if anything comes out different."""
    configure_third_parties()
    # MLflow and scikit-learn take seconds to import: only the commands that need them pay for it
    from listeners.tracking.runs import Tracking  # noqa: PLC0415
    from rakuten.provenance.references import resolve  # noqa: PLC0415
    from rakuten.provenance.reproduce import reproduce as verdicts  # noqa: PLC0415

    settings = read_settings()
    console, progress = Console(highlight=False), Console(stderr=True)
    with open_database(settings) as database:
        conninfo, tracking = database.conninfo(Role.READER), Tracking(settings)
        with engine(conninfo, "rakuten reproduce").connect() as connection:
            found = resolve(what, connection, tracking)
        if found.batch_id is None or found.batch_name is None or found.dataset_run_id is None:
            raise BadInputError(
                f"{what} has no dataset to reproduce", remedy="rakuten status shows which batches have one"
            )
        runs = (
            tracking.run(found.dataset_run_id),
            tracking.run(found.model_run_id) if found.model_run_id else None,
        )
        results = []
        with (
            connect(conninfo, "rakuten reproduce", autocommit=True) as session,
            progress.status(f"reproducing {found.batch_name}"),
        ):
            for verdict in verdicts(session, tracking, settings, (found.batch_id, found.batch_name), runs):
                results.append(verdict)
                if not as_json:
                    console.print(
                        f"{'same     ' if verdict.same else 'different'}  {verdict.step}: {verdict.detail}",
                        soft_wrap=True,
                        markup=False,
                    )
                    if verdict.cause is not None:
                        console.print(f"           cause: {verdict.cause}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(json.dumps([asdict(verdict) for verdict in results], indent=2))
    if not all(verdict.same for verdict in results):
        raise typer.Exit(1)
