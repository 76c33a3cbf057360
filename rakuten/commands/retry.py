"""`rakuten retry`: retry each stage (snapshot or training) that has given up a batch after too many failures."""

from typing import Final

import typer

from db import batches
from db.database import Role
from rakuten.session import open_session, warn_if_nobody_listens
from shared.errors import BadInputError

EXAMPLES: Final = ("rakuten retry", "rakuten retry --batch correction_1")


def retry(
    week: int | None = typer.Option(None, help="number of a week: retry only the batch of that week", min=1),
    batch: str | None = typer.Option(
        None, metavar="NAME", help="retry only this batch, for example correction_1; default: all batches"
    ),
) -> None:
    """Retry each stage (snapshot or training) that has given up a batch after too many failures."""
    batch = f"week_{week}" if week is not None else batch
    revived = 0
    with open_session("retry") as session:
        for batch_id, batch_name, stage in batches.failed_stages(session.connection):
            if batch in {None, batch_name}:
                with session.database.connect(Role[stage.upper()], "rakuten retry") as connection:
                    was_given_up = batches.retry_stage(connection, batch_id, stage)
                if was_given_up:  # False if another process has just let the stage retry
                    revived += 1
                    typer.echo(f"{batch_name}: the stage {stage} will be tried again")
        if revived:
            warn_if_nobody_listens(session.settings)
    if batch is not None and not revived:
        raise BadInputError(
            f"no stage has given up {batch}", remedy="rakuten status shows the state of each batch"
        )
    if not revived:
        typer.echo("no stage has given up a batch")
