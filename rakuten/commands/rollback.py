"""`rakuten rollback`: take the champion back to an earlier model."""

import getpass
import os
from typing import Annotated

import typer

from db.database import Role
from listeners.promotion.rollback import roll_back
from rakuten.session import open_session

Reason = Annotated[str, typer.Option(help="why; it is kept in the history, for everybody to read")]
Version = Annotated[
    int | None,
    typer.Option(min=1, help="the version to go to; by default the champion before the present one"),
]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON, times in UTC")]


def rollback(reason: Reason, to: Version = None, as_json: AsJson = False) -> None:
    """Move the alias `champion` back. The model that it leaves does not come back by itself; later ones are compared with the new champion."""
    with open_session("rollback", Role.TRAINING) as session:
        move = roll_back(session.tracking, session.connection, to, reason=reason, by=_user())
    if as_json:
        typer.echo(move.model_dump_json(exclude={"made"}, indent=2))
    else:
        typer.echo(f"version {move.to_version} is champion, instead of version {move.from_version}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"
