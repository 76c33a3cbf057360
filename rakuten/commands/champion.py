"""`rakuten champion`: show which model is the champion, and the history of the alias `champion`."""

import json
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from listeners.promotion.champion_history import Move, champion_history
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from rakuten.console import wide_console
from rakuten.session import require_state
from shared.config import read_settings
from shared.logs import printable

EXAMPLES: Final = ("rakuten champion",)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON, with times in UTC, instead of a table")]


def champion(as_json: AsJson = False) -> None:
    """Show which model is the champion, and each change of champion: when, by whom, why.

    A change moves the alias `champion` from one version of the registered model to another.
    """
    settings = read_settings()
    if settings.mlflow_tracking_uri is None and settings.postgres_host is None:
        require_state(settings)
    tracking = Tracking(settings)
    holder, history = registry.champion(tracking), champion_history(tracking)
    version = None if holder is None else int(holder.version)
    if as_json:
        moves = [move.model_dump(mode="json", exclude={"made"}) for move in history]
        typer.echo(
            json.dumps({"model": tracking.registered_model, "champion": version, "history": moves}, indent=2)
        )
        return
    if history:
        wide_console().print(_table(history))
    answer = "none" if version is None else f"version {version}"
    if history and version != history[-1].to_version:
        answer += ", moved by hand since the last entry of the history"
    typer.echo(f"champion of {tracking.registered_model}: {answer}")


def _table(history: list[Move]) -> Table:
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
