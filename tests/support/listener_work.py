"""A worker and its LISTEN connection in this process, at work until nothing waits any more."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import scripted_handler
from waiting import until

from db.batches import pipeline_status
from db.connect import connect
from db.database import Database, Role
from listeners.doorbell import Doorbell
from listeners.listen import Timing, WakeSource, WakeUp, listen
from listeners.worker import StageWorker
from shared.config import Settings
from shared.events import Channel, Stage

DEADLINE_S = 60


@asynccontextmanager
async def at_work(settings: Settings, conninfo: str, *, ring: bool = True) -> AsyncIterator[None]:
    """Run a worker of the snapshot stage, with a scripted handler, and its LISTEN connection, both through `conninfo`."""
    settings = settings.model_copy(update={"poll_interval_s": 0.1, "ping_interval_s": 0.2})
    settings.state_path.mkdir(parents=True, exist_ok=True)
    scripted_handler.script_of(settings).write_text("")
    doorbell, stop = Doorbell(), asyncio.Event()
    worker = StageWorker(
        Stage.SNAPSHOT, conninfo, settings, doorbell, stop, handler="scripted_handler", reconciler=None
    )
    listening = asyncio.create_task(
        listen(
            conninfo,
            [Channel.BATCH_COMPLETED],
            Timing(settings.ping_interval_s, settings.ping_deadline_s),
            doorbell.ring,
            application="rakuten snapshot listen",
        )
    )
    working = asyncio.create_task(worker.run())
    if ring:
        doorbell.ring(WakeUp(WakeSource.START, time.monotonic()))
    try:
        yield
        assert not listening.done()
        assert not working.done()
    finally:
        stop.set()
        doorbell.interrupt()
        await asyncio.wait_for(working, DEADLINE_S)
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def work_off(database: Database, settings: Settings, conninfo: str, *, ring: bool = True) -> None:
    """Work through `conninfo` until every loaded batch has its (scripted) dataset."""
    async with at_work(settings, conninfo, ring=ring):
        await until(lambda: all_finished(database))


def all_finished(database) -> bool:
    with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
        return all(row["snapshot_state"] == "finished" for row in pipeline_status(connection))
