"""`rakuten champion`: show which model is the champion, and the history of the alias `champion`."""

import json
from typing import Annotated, Final

import typer
from rich.markup import escape

from listeners.promotion.champion_history import champion_history
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from rakuten.console import Column, print_table, working
from rakuten.session import require_state
from shared.config import read_settings
from shared.logs import printable

EXAMPLES: Final = ("rakuten champion",)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON, with times in UTC, instead of a table")]


def champion(
    as_json: AsJson = False,
    wide: bool = typer.Option(False, "--wide", help="show all columns, even if the terminal is too narrow"),
) -> None:
    """Show which model is the champion, and each change of champion: when, by whom, why.

    A change moves the alias `champion` from one version of the registered model to another.
    """
    settings = read_settings()
    if settings.mlflow_tracking_uri is None and settings.postgres_host is None:
        require_state(settings)
    with working("reading the history of the champion"):
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
        print_table(_COLUMNS, history, wide=wide, caption="times are UTC")
    answer = "none" if version is None else f"version {version}"
    if history and version != history[-1].to_version:
        answer += ", moved by hand since the last entry of the history"
    typer.echo(f"champion of {tracking.registered_model}: {answer}")


def _version(number: int | None) -> str:
    return "-" if number is None else str(number)


_COLUMNS: Final[tuple[Column, ...]] = (
    Column("at", lambda move: f"{move.at:%Y-%m-%d %H:%M:%S}", justify="left"),
    Column("from", lambda move: _version(move.from_version), rank=3),
    Column("to", lambda move: _version(move.to_version)),
    Column("move", lambda move: move.kind, rank=1, justify="left"),
    Column("by", lambda move: escape(printable(move.by)), rank=2, justify="left"),
    Column("reason", lambda move: escape(printable(move.reason)), justify="left", wraps=True),
)
