"""`rakuten rollback`: move the alias `champion` back to an earlier model."""

import getpass
import os
from typing import Annotated, Final

import typer

from db.database import Role
from listeners.promotion.rollback import roll_back
from rakuten.console import working
from rakuten.session import open_session

EXAMPLES: Final = ("rakuten rollback --reason 'worse on books'",)

Reason = Annotated[str, typer.Option(help="why you roll back; `rakuten champion` shows it to everybody")]
Version = Annotated[
    int | None,
    typer.Option(min=1, help="the model version to make champion; by default the previous champion"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print the alias move as JSON, with UTC times")]


def rollback(reason: Reason, to: Version = None, as_json: AsJson = False) -> None:
    """Move the alias `champion` back to an earlier model.

    A rollback withdraws each champion whose batch is later than the batch of the restored model. A withdrawn champion is never
    promoted again, and neither are the other models of its batch or of an earlier batch. Models of later batches are compared
    with the restored champion.
    """
    with open_session("rollback", Role.TRAINING) as session, working("moving the alias"):
        conninfo = session.database.conninfo(Role.TRAINING)
        move = roll_back(session.tracking, conninfo, to, reason=reason, by=_user())
    if as_json:
        typer.echo(move.model_dump_json(exclude={"made"}, indent=2))
    else:
        typer.echo(f"version {move.to_version} is champion, instead of version {move.from_version}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user id often has no user name
        return f"uid {os.getuid()}"
