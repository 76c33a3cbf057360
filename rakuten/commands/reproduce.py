"""`rakuten reproduce`: rebuild a dataset and its model, and compare them with the originals that MLflow recorded."""

import json
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console

from db.database import Role
from rakuten.console import working
from rakuten.provenance.references import resolve
from rakuten.provenance.reproduce import reproduce as verdicts
from rakuten.session import open_session
from shared.errors import BadInputError

EXAMPLES: Final = ("rakuten reproduce week_3",)

Name = Annotated[
    str,
    typer.Argument(
        metavar="X", help="a batch such as week_7, a model such as models:/rakuten_classifier/3, or a run id"
    ),
]


def reproduce(
    name: Name, as_json: bool = typer.Option(False, "--json", help="print the comparisons as a JSON list")
) -> None:
    """Rebuild the dataset of a batch, and the model trained on it, and compare them with the originals in MLflow.

    The rows come from the audit trail. The rebuilt files go to a temporary directory. The exit code is 1 if the rebuilt
    dataset or model differs from the original.
    """
    console = Console(highlight=False)
    with open_session("reproduce") as session:
        tracking = session.tracking
        found = resolve(name, session.connection, tracking)
        if found.batch_id is None or found.batch_name is None or found.dataset_run_id is None:
            raise BadInputError(
                f"{name} has no dataset to reproduce", remedy="rakuten status shows which batches have one"
            )
        runs = (
            tracking.run(found.dataset_run_id),
            tracking.run(found.model_run_id) if found.model_run_id else None,
        )
        results = []
        batch = found.batch_id, found.batch_name
        conninfo = session.database.conninfo(Role.READER)
        with working(f"reproducing {found.batch_name}"):
            for verdict in verdicts(conninfo, tracking, session.settings, batch, runs):
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
