"""`rakuten correct`: change, delete or restore products. All corrections of a file together become one new batch."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from db.database import Role
from db.load.correction import CorrectionResult
from db.load.correction import correct as apply
from db.load.openlineage_events import emit_load_events
from rakuten.console import problems_as_json, working
from rakuten.session import open_session, warn_if_nobody_listens
from shared.openlineage.emitter import Emitter

EXAMPLES: Final = (
    "rakuten correct corrections.csv --check",
    "rakuten correct corrections.csv --reason 'wrong class'",
)

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE.csv",
        help="a CSV file with the columns productid, operation (optional: update, delete or insert), and columns to change:"
        " designation, description, imageid, prdtypecode",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
]


def correct(
    file: File,
    reason: str | None = typer.Option(None, help="why the products are corrected; stored with the new batch"),
    check: bool = typer.Option(
        False, "--check", help="change no product; report what the file would change, or its errors"
    ),
    as_json: bool = typer.Option(
        False, "--json", help="print one JSON object: the result, or the errors in the file if it is rejected"
    ),
) -> None:
    """Apply all corrections in a file. If one of them is invalid, apply none.

    The corrections become one new batch. As for a weekly load, PostgreSQL records the changes in the audit trail, seals the
    batch and notifies the listeners. The seal is a digest of the batch's changes and of the previous batch's seal.
    """
    with (
        open_session("correct", Role.LOADER, autocommit=False) as session,
        Emitter(session.settings) as emitter,
        emit_load_events(session.connection, emitter) as run,
        working("checking the corrections" if check else "applying the corrections"),
        problems_as_json(as_json),
    ):
        result = apply(session.connection, session.settings, file, reason=reason, check=check)
        if result.batch_id is not None:
            # One transaction creates and completes the batch, so the event START can only be emitted after the commit.
            run.started(result.batch_id)
    typer.echo(json.dumps({**asdict(result), "checked_only": check}) if as_json else _sentence(result))
    if result.batch_id is not None:
        warn_if_nobody_listens(session.settings)


def _sentence(result: CorrectionResult) -> str:
    done = (
        f"products updated: {result.updated:,}, inserted: {result.inserted:,}, deleted: {result.deleted:,}, "
        f"held out from now on: {result.held_out:,}; labels written: {result.labels:,}"
    )
    if result.batch_id is None:
        return f"{result.batch_name} would be: {done}; nothing was changed"
    return f"{result.batch_name}: {done}; products in all: {result.total_rows:,}; batch {result.batch_id} completed"
