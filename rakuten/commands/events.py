"""`rakuten events`: print each notification that PostgreSQL sends to the listeners, as it arrives."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Final

import typer

from db.database import Role, open_database
from listeners.listen import Timing, WakeSource, WakeUp
from listeners.listen import listen as listen_forever
from shared.config import read_settings
from shared.events import Channel, InvalidPayloadError, parse
from shared.logs import printable

EXAMPLES: Final = ("rakuten events", "rakuten events --json")


def events(
    as_json: bool = typer.Option(False, "--json", help="print one JSON object per notification"),
) -> None:
    """Print each notification that PostgreSQL sends to the listeners, as it arrives. Ctrl-C ends the command."""
    settings = read_settings()
    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s)

    def show(wake: WakeUp) -> None:
        if wake.source is WakeSource.NOTIFY:
            typer.echo(_as_json(wake) if as_json else _as_text(wake))

    with open_database(settings) as database:
        typer.echo(f"listening on the channels {', '.join(Channel)}; press Ctrl-C to end", err=True)
        conninfo = database.conninfo(Role.READER)
        asyncio.run(listen_forever(conninfo, Channel, timing, show, application="rakuten events"))


def _as_text(wake: WakeUp) -> str:
    try:
        event = parse(wake.channel, wake.payload)
    except InvalidPayloadError as error:
        decoded = f"not from the pipeline ({error}): {printable(wake.payload[:120])}"
    else:
        decoded = " ".join(f"{name}={value}" for name, value in event.model_dump(exclude={"v"}).items())
    return f"{time.strftime('%H:%M:%S')}  {wake.channel:<17} {decoded}"


def _as_json(wake: WakeUp) -> str:
    """Return a notification as JSON: when it arrived (UTC), its channel, and its event, or why it is none of the pipeline."""
    arrived = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "channel": wake.channel}
    try:
        event = parse(wake.channel, wake.payload)
    except InvalidPayloadError as error:
        return json.dumps({**arrived, "error": str(error), "payload": wake.payload})
    return json.dumps({**arrived, "event": event.model_dump(mode="json")})
