"""`rakuten status`: show for each batch what the pipeline has done and is doing."""

import json
from collections.abc import Callable
from typing import Any, Final

import typer
from rich.table import Table

from db import batches
from rakuten.console import wide_console
from rakuten.session import open_session

EXAMPLES: Final = ("rakuten status", "rakuten status --ledger", "rakuten status --json")


def status(
    as_json: bool = typer.Option(False, "--json", help="print JSON with all columns, not only the main ones"),
    ledger: bool = typer.Option(
        False,
        "--ledger",
        help="show instead, per batch and stage, what woke the listener and how long each step took",
    ),
) -> None:
    """Show one line per batch: the rows that were loaded, the dataset and the model.

    A batch is a week, or the corrections of one file.
    """
    with open_session("status") as session:
        rows = (batches.stage_ledger if ledger else batches.pipeline_status)(session.connection)
    if as_json:
        typer.echo(json.dumps(rows, default=_plain, indent=2))
    elif not rows:
        typer.echo("nothing is loaded yet; start with rakuten load or rakuten demo")
    elif ledger:
        wide_console().print(ledger_table(rows))
    else:
        console = wide_console()
        console.print(status_table(rows))
        for row in rows:
            for step in ("load", "snapshot", "training"):
                if row[f"{step}_error"] and row.get(f"{step}_state") != "finished":
                    console.print(
                        f"{row['batch_name']} {step}: {row[f'{step}_error']}", style="red", markup=False
                    )


_COLUMNS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "week": lambda row: row["batch_name"].removeprefix("week_"),
    "load": lambda row: f"{float(row['percentage']):g} %" if row["status"] == "completed" else row["status"],
    "rows": lambda row: _number(row["total_rows"] or None),
    "new": lambda row: _number(row["new_rows"]),
    "dataset": lambda row: _number(row["snapshot_rows"]) or _state(row["snapshot_state"]),
    "F1": lambda row: _interval(row) or _training_state(row),
    "wake s": lambda row: _seconds(row["commit_to_wake_s"], 3),
    "dataset s": lambda row: _seconds(row["commit_to_dataset_s"], 1),
    "model s": lambda row: _seconds(row["commit_to_model_s"], 1),
    "champion": lambda row: {True: "moved", False: "kept", None: ""}[row["became_champion"]],
}


def status_table(rows: list[dict[str, Any]]) -> Table:
    """Return a table of the main columns of `pipeline_status`, newest batch last.

    Times are seconds since the batch was completed.
    """
    table = Table(
        caption="s: seconds since the load's commit; F1: weighted, on the holdout, with its 95 % interval"
    )
    for heading in _COLUMNS:
        table.add_column(heading, justify="left" if heading == "load" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell(row) for cell in _COLUMNS.values()))
    return table


def ledger_table(rows: list[dict[str, Any]]) -> Table:
    """Return a table with one row per batch and stage: what woke the listener, and the seconds of each step."""
    table = Table(
        caption="to wake: since the batch was ready. Every wake other than notify is a catch-up, without a notification."
    )
    for heading in ("week", "stage", "state", "wake"):
        table.add_column(heading, no_wrap=True)
    for heading in ("to wake s", "to claim s", "to done s", "attempts", "failures", "outages"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["batch_name"].removeprefix("week_"),
            row["stage"],
            row["state"],
            row["wake"] or "",
            *(
                _seconds(row[column], 3)
                for column in ("ready_to_wake_s", "wake_to_claim_s", "claim_to_done_s")
            ),
            *(_number(row[column] or None) for column in ("attempts", "failures", "outages")),
        )
    return table


def _plain(value: object) -> object:
    """Convert a value that JSON cannot hold: a time to ISO 8601 text, and a decimal number to a float."""
    return value.isoformat() if hasattr(value, "isoformat") else float(str(value))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _seconds(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _state(state: str) -> str:
    return {"waiting": "...", "running": "running", "failed": "[red]failed[/red]"}.get(state, "")


def _interval(row: dict[str, Any]) -> str:
    if row["f1_score"] is None:
        return ""
    return f"{row['f1_score']:.3f} ({row['f1_score_ci_low']:.3f}-{row['f1_score_ci_high']:.3f})"


def _training_state(row: dict[str, Any]) -> str:
    return _state(row["training_state"]) if row["snapshot_state"] == "finished" else ""
