"""`rakuten orphans`: list the MLflow runs whose batch PostgreSQL does not have, and settle the difference after a restore."""

import json
from dataclasses import asdict
from typing import Final

import typer

from db.database import Role
from rakuten.console import working
from rakuten.provenance.orphans import find_orphans, supersede_orphans
from rakuten.session import open_session

EXAMPLES: Final = ("rakuten orphans",)


def orphans(
    supersede: bool = typer.Option(
        False,
        help="mark the runs as superseded, and move the alias `champion` back to a model of a known batch",
    ),
    as_json: bool = typer.Option(False, "--json", help="print the runs as a JSON list"),
) -> None:
    """List the runs in MLflow whose batch PostgreSQL does not have.

    There are such runs after a restore of an older PostgreSQL, after the promotion of a standby that lacks the last batch, or
    if somebody deleted a batch. With --supersede, PostgreSQL is right: nothing uses these runs any more, and the next load
    makes the batch again. Do not use --supersede if the runs belong to another database that shares this MLflow.
    """
    with open_session("orphans", Role.TRAINING) as session, working("comparing MLflow with PostgreSQL"):
        found = find_orphans(session.tracking, session.connection)
        notes = (
            supersede_orphans(
                session.tracking, session.connection, session.database.conninfo(Role.TRAINING), found
            )
            if supersede
            else []
        )
    if as_json:
        typer.echo(json.dumps([asdict(orphan) for orphan in found], indent=2))
        return
    for orphan in found:
        typer.echo(
            f"{orphan.run_name}: run {orphan.run_id}: PostgreSQL does not have its batch {orphan.batch_id}"
        )
    for note in notes:
        typer.echo(note)
    if not found and not notes:
        typer.echo("MLflow has no run of an unknown batch")
    elif found and not supersede:
        typer.echo(
            "if PostgreSQL was restored, or the batch was deleted on purpose, run: rakuten orphans --supersede"
        )
