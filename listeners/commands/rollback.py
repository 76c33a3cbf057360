"""`rakuten champion` and `rakuten rollback`: which model serves, how it came to that, and going back to an earlier one."""

import getpass
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from db.connect import connect
from db.database import Role, open_database
from listeners.commands.status import wide_console
from shared.config import configure_third_parties, read_settings
from shared.logs import printable
from shared.mlflow_names import REGISTERED_MODEL

if TYPE_CHECKING:  # MLflow takes seconds to import
    from listeners.training.champion import Move

Reason = Annotated[str, typer.Option(help="why; it is kept in the history, for everybody to read")]
Version = Annotated[
    int | None,
    typer.Option(min=1, help="the version to go to; by default the champion before the present one"),
]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON, times in UTC")]


def champion(as_json: AsJson = False) -> None:
    """Who is champion, and every move of the alias: from where to where, when, by whom, why."""
    configure_third_parties()
    from listeners.mlflow_runs import Tracking  # noqa: PLC0415
    from listeners.training import registry  # noqa: PLC0415
    from listeners.training.champion import champion_history  # noqa: PLC0415

    tracking = Tracking(read_settings())
    holder, history = registry.champion(tracking), champion_history(tracking)
    version = None if holder is None else int(holder.version)
    if as_json:
        moves = [move.model_dump(mode="json", exclude={"made"}) for move in history]
        typer.echo(json.dumps({"model": REGISTERED_MODEL, "champion": version, "history": moves}, indent=2))
        return
    if history:
        wide_console().print(_table(history))
    said = "nobody" if version is None else f"version {version}"
    if history and version != history[-1].to_version:
        said += ", moved by hand since"
    typer.echo(f"champion of {REGISTERED_MODEL}: {said}")


def rollback(reason: Reason, to: Version = None, as_json: AsJson = False) -> None:
    """Move the alias `champion` back. The model that it leaves does not come back by itself; later ones are compared with the new champion."""
    configure_third_parties()
    from listeners.mlflow_runs import Tracking  # noqa: PLC0415
    from listeners.training.rollback import roll_back  # noqa: PLC0415

    settings = read_settings()
    with (
        open_database(settings) as database,
        connect(database.conninfo(Role.TRAINING), "rakuten rollback", autocommit=True) as connection,
    ):
        move = roll_back(Tracking(settings), connection, to, reason=reason, by=_user())
    if as_json:
        typer.echo(move.model_dump_json(exclude={"made"}, indent=2))
    else:
        typer.echo(f"version {move.to_version} is champion, instead of version {move.from_version}")


def _table(history: "list[Move]") -> Table:
    table = Table(caption="times are UTC")
    for heading in ("at", "from", "to", "move", "by", "reason"):
        table.add_column(heading, no_wrap=heading != "reason")
    for move in history:
        versions = (
            "-" if version is None else str(version) for version in (move.from_version, move.to_version)
        )
        written = (Text(printable(text)) for text in (move.by, move.reason))
        table.add_row(f"{move.at:%Y-%m-%d %H:%M:%S}", *versions, move.kind, *written)
    return table


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"
