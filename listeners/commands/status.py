"""`rakuten status`, `events` and `retry`: what the pipeline has done, does, and should do again."""

import asyncio
import json
import re
import time
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from db import batches
from db.connect import engine
from db.database import Role, open_database
from listeners.listen import Timing, WakeSource, WakeUp
from listeners.listen import listen as listen_forever
from shared.config import read_settings
from shared.errors import BadInputError
from shared.events import Channel, InvalidPayloadError, parse

_TABLE_WIDTH: Final = 110


def status(
    as_json: bool = typer.Option(False, "--json", help="all columns of the view, as JSON"),
    ledger: bool = typer.Option(
        False,
        "--ledger",
        help="the view stage_ledger instead: what woke each stage, and how long each step took",
    ),
) -> None:
    """One line a week: what was loaded, and what each stage made of it."""
    with (
        open_database(read_settings()) as database,
        engine(database.conninfo(Role.READER), "rakuten status").connect() as connection,
    ):
        rows = batches.stage_ledger(connection) if ledger else batches.pipeline_status(connection)
    if as_json:
        typer.echo(json.dumps(rows, default=_plain, indent=2))
    elif not rows:
        typer.echo("nothing is loaded yet: rakuten load, or rakuten demo")
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


def wide_console() -> Console:
    """A console on which the table fits also where there is no terminal to ask for its width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_TABLE_WIDTH)


def status_table(rows: list[dict[str, Any]]) -> Table:
    """The columns that people look at, newest week last. Times are seconds since the batch was completed."""
    table = Table(
        caption="s: seconds since the load's commit; F1: weighted, on the holdout, with its 95 % interval"
    )
    for heading in (
        "week",
        "load",
        "rows",
        "new",
        "dataset",
        "F1",
        "wake s",
        "dataset s",
        "model s",
        "champion",
    ):
        table.add_column(heading, justify="left" if heading == "load" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["batch_name"].removeprefix("week_"),
            f"{float(row['percentage']):g} %" if row["status"] == "completed" else row["status"],
            _number(row["total_rows"] or None),
            _number(row["new_rows"]),
            _number(row["snapshot_rows"]) or _state(row["snapshot_state"]),
            _interval(row) or (_state(row["training_state"]) if row["snapshot_state"] == "finished" else ""),
            _seconds(row["commit_to_wake_s"], 3),
            _seconds(row["commit_to_dataset_s"], 1),
            _seconds(row["commit_to_model_s"], 1),
            {True: "moved", False: "kept", None: ""}[row["became_champion"]],
        )
    return table


def ledger_table(rows: list[dict[str, Any]]) -> Table:
    """How each stage came to its work. Times are seconds; what was repeated shows its latest attempt."""
    table = Table(
        caption="to wake: since the batch was ready. Whatever woke the stage but a notification is a catch-up."
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


def events() -> None:
    """Follow all channels: every notification as it arrives, decoded. Ends with Ctrl-C."""
    settings = read_settings()
    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s, settings.poll_interval_s)

    def show(wake: WakeUp) -> None:
        if wake.source is WakeSource.NOTIFY:
            typer.echo(f"{time.strftime('%H:%M:%S')}  {wake.channel:<17} {_decoded(wake)}")

    with open_database(settings) as database:
        typer.echo(f"listening on {', '.join(Channel)}; Ctrl-C ends it", err=True)
        asyncio.run(
            listen_forever(
                database.conninfo(Role.READER), Channel, timing, show, application="rakuten events"
            )
        )


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


def _decoded(wake: WakeUp) -> str:
    try:
        event = parse(wake.channel, wake.payload)
    except InvalidPayloadError as error:
        printable = re.sub(r"[^\x20-\x7e]", "?", wake.payload[:120])
        return f"not from the pipeline ({error}): {printable}"
    return " ".join(f"{name}={value}" for name, value in event.model_dump(exclude={"v"}).items())


def _plain(value: object) -> object:
    """Moments as ISO 8601, numerics as numbers."""
    return value.isoformat() if hasattr(value, "isoformat") else float(str(value))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _seconds(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _state(state: str) -> str:
    return {"waiting": "...", "running": "at work", "failed": "[red]failed[/red]"}.get(state, "")


def _interval(row: dict[str, Any]) -> str:
    if row["f1_score"] is None:
        return ""
    return f"{row['f1_score']:.3f} ({row['f1_score_ci_low']:.3f}-{row['f1_score_ci_high']:.3f})"
