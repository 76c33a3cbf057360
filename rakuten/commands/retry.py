"""`rakuten retry`: try again what a stage has given up."""

import typer

from db import batches
from db.connect import engine
from db.database import Role, open_database
from shared.config import read_settings
from shared.errors import BadInputError


def retry(
    week: int | None = typer.Option(None, help="the batch of this week only", min=1),
    batch: str | None = typer.Option(
        None, metavar="NAME", help="this batch only (correction_1); by default every one that was given up"
    ),
) -> None:
    """Revive the stages that gave a batch up."""
    settings = read_settings()
    batch = f"week_{week}" if week is not None else batch
    revived = 0
    with open_database(settings) as database:
        with engine(database.conninfo(Role.READER), "rakuten retry").connect() as connection:
            failed = batches.failed_stages(connection)
        for batch_id, batch_name, stage in failed:
            if batch in {None, batch_name}:
                with engine(database.conninfo(Role[stage.upper()]), "rakuten retry").begin() as connection:
                    was_given_up = batches.retry_stage(connection, batch_id, stage)
                if was_given_up:  # and not revived by somebody else meanwhile
                    revived += 1
                    typer.echo(f"{batch_name}: {stage} will be tried again")
    if batch is not None and not revived:
        raise BadInputError(
            f"{batch} has no stage that was given up", remedy="rakuten status shows the state of each"
        )
    if not revived:
        typer.echo("nothing was given up")
