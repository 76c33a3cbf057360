"""`rakuten events`: print each notification that PostgreSQL sends to the listeners, as it arrives."""

import asyncio
import time
from typing import Final

import typer

from db.database import Role, open_database
from listeners.listen import Timing, WakeSource, WakeUp
from listeners.listen import listen as listen_forever
from shared.config import read_settings
from shared.events import Channel, InvalidPayloadError, parse
from shared.logs import printable

EXAMPLES: Final = ("rakuten events",)


def events() -> None:
    """Print each notification that PostgreSQL sends to the listeners, as it arrives. Ctrl-C ends the command."""
    settings = read_settings()
    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s)

    def show(wake: WakeUp) -> None:
        if wake.source is WakeSource.NOTIFY:
            typer.echo(f"{time.strftime('%H:%M:%S')}  {wake.channel:<17} {_decoded(wake)}")

    with open_database(settings) as database:
        typer.echo(f"listening on the channels {', '.join(Channel)}; press Ctrl-C to end", err=True)
        conninfo = database.conninfo(Role.READER)
        asyncio.run(listen_forever(conninfo, Channel, timing, show, application="rakuten events"))


def _decoded(wake: WakeUp) -> str:
    try:
        event = parse(wake.channel, wake.payload)
    except InvalidPayloadError as error:
        return f"not from the pipeline ({error}): {printable(wake.payload[:120])}"
    return " ".join(f"{name}={value}" for name, value in event.model_dump(exclude={"v"}).items())
