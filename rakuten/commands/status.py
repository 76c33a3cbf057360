"""`rakuten status`: show for each batch what the pipeline has done and is doing."""

import json
from typing import Any, Final

import typer
from rich.table import Table

from db import batches
from rakuten.console import Column, fitting_table, print_table, wide_console
from rakuten.session import open_session
from rakuten.storage import measure_storage
from rakuten.storage_table import show_storage

EXAMPLES: Final = (
    "rakuten status",
    "rakuten status --ledger",
    "rakuten status --storage",
    "rakuten status --json",
)


def status(
    as_json: bool = typer.Option(False, "--json", help="print JSON with all columns, not only the main ones"),
    ledger: bool = typer.Option(
        False,
        "--ledger",
        help="show instead, per batch and stage, what woke the listener and how long each step took",
    ),
    storage: bool = typer.Option(
        False,
        "--storage",
        help="show instead how much space everything takes, how fast it grows, and for how long the disk is large enough",
    ),
    wide: bool = typer.Option(False, "--wide", help="show all columns, even if the terminal is too narrow"),
) -> None:
    """Show one line per batch: the rows that were loaded, the dataset and the model.

    A batch is a week, or the corrections of one file.
    """
    if ledger and storage:
        raise typer.BadParameter("choose one of --ledger and --storage")
    with open_session("status") as session:
        if storage:
            show_storage(measure_storage(session.connection, session.settings), as_json=as_json, wide=wide)
            return
        rows = (batches.stage_ledger if ledger else batches.pipeline_status)(session.connection)
    if as_json:
        typer.echo(json.dumps(rows, default=_plain, indent=2))
    elif not rows:
        typer.echo("nothing is loaded yet; start with rakuten load or rakuten demo")
    elif ledger:
        print_table(_LEDGER_COLUMNS, rows, wide=wide, caption=_LEDGER_CAPTION)
    else:
        print_table(_COLUMNS, rows, wide=wide, caption=_CAPTION)
        console = wide_console()
        for row in rows:
            for step in ("load", "snapshot", "training"):
                if row[f"{step}_error"] and row.get(f"{step}_state") != "finished":
                    console.print(
                        f"{row['batch_name']} {step}: {row[f'{step}_error']}", style="red", markup=False
                    )


def status_table(rows: list[dict[str, Any]], width: int) -> Table:
    """Return a table of the main columns of `pipeline_status` that fit into `width`, newest batch last."""
    return fitting_table(_COLUMNS, rows, width, caption=_CAPTION)


def _plain(value: object) -> object:
    """Convert a value that JSON cannot hold: a time to ISO 8601 text, and a decimal number to a float."""
    return value.isoformat() if hasattr(value, "isoformat") else float(str(value))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _seconds(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _state(state: str) -> str:
    return {"waiting": "...", "running": "running", "failed": "[red]failed[/red]"}.get(state, "")


def _f1(row: dict[str, Any]) -> str:
    return "" if row["f1_score"] is None else f"{row['f1_score']:.3f}"


def _interval(row: dict[str, Any]) -> str:
    return "" if row["f1_score"] is None else f"{row['f1_score_ci_low']:.3f}-{row['f1_score_ci_high']:.3f}"


def _training_state(row: dict[str, Any]) -> str:
    return _state(row["training_state"]) if row["snapshot_state"] == "finished" else ""


def _week(row: dict[str, Any]) -> str:
    return str(row["batch_name"]).removeprefix("week_")


def _load(row: dict[str, Any]) -> str:
    return f"{float(row['percentage']):g} %" if row["status"] == "completed" else str(row["status"])


def _champion(row: dict[str, Any]) -> str:
    return {True: "moved", False: "kept", None: ""}[row["became_champion"]]


_CAPTION: Final = "F1: weighted, on the holdout; s: seconds since the load's commit"
_COLUMNS: Final = (
    Column("week", _week),
    Column("load", _load, justify="left"),
    Column("rows", lambda row: _number(row["total_rows"] or None)),
    Column("new", lambda row: _number(row["new_rows"]), rank=3),
    Column("dataset", lambda row: _number(row["snapshot_rows"]) or _state(row["snapshot_state"])),
    Column("F1", lambda row: _f1(row) or _training_state(row)),
    Column("95 % interval", _interval, rank=2),
    Column("wake s", lambda row: _seconds(row["commit_to_wake_s"], 3), rank=6),
    Column("dataset s", lambda row: _seconds(row["commit_to_dataset_s"], 1), rank=5),
    Column("model s", lambda row: _seconds(row["commit_to_model_s"], 1), rank=4),
    Column("champion", _champion, rank=1),
)
_LEDGER_CAPTION: Final = (
    "to wake: since the batch was ready. Every wake other than notify is a catch-up, without a notification."
)
_LEDGER_COLUMNS: Final = (
    Column("week", _week, justify="left"),
    Column("stage", lambda row: row["stage"], justify="left"),
    Column("state", lambda row: row["state"], justify="left"),
    Column("wake", lambda row: row["wake"] or "", rank=1, justify="left"),
    Column("to wake s", lambda row: _seconds(row["ready_to_wake_s"], 3), rank=3),
    Column("to claim s", lambda row: _seconds(row["wake_to_claim_s"], 3), rank=6),
    Column("to done s", lambda row: _seconds(row["claim_to_done_s"], 3)),
    Column("attempts", lambda row: _number(row["attempts"] or None), rank=5),
    Column("failures", lambda row: _number(row["failures"] or None), rank=2),
    Column("outages", lambda row: _number(row["outages"] or None), rank=4),
)
