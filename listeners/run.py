"""One listener process: ears (listen), hands (the stage's worker), and a clean end on SIGTERM."""

import asyncio
import os
import signal
import sys

import structlog

from db.batches import listening_application
from listeners.child import warm_up
from listeners.doorbell import Doorbell
from listeners.health import Heartbeat
from listeners.job import handler_module
from listeners.listen import Timing, listen
from listeners.worker import StageWorker
from shared.config import Settings, configure_third_parties
from shared.events import Channel, Stage

logger = structlog.get_logger()

_CHANNEL_OF = {Stage.SNAPSHOT: Channel.BATCH_COMPLETED, Stage.TRAINING: Channel.DATASET_READY}
_LAST_WORDS_S = 5.0  # after the grace period: to record that the work is handed back
MISSED_PINGS = (
    3  # so many may be late or fail before a health check does, or the doctor calls the listener deaf
)


def run_listener(stage: Stage, conninfo: str, settings: Settings, *, with_parent: bool = False) -> None:
    """Run until SIGTERM or SIGINT; work in progress is finished within the grace period or handed back.

    Args:
        stage: what to do.
        conninfo: how to connect, as the role of that stage.
        settings: the settings.
        with_parent: also stop when standard input closes, which is how a started listener notices that its starter is gone.
    """
    configure_third_parties()
    asyncio.run(_run(stage, conninfo, settings, with_parent=with_parent))


async def _run(stage: Stage, conninfo: str, settings: Settings, *, with_parent: bool) -> None:
    stop, doorbell = asyncio.Event(), Doorbell()
    structlog.contextvars.bind_contextvars(stage=stage)

    def request_stop(name: str) -> None:
        logger.info("stopping", signal=name, grace_period_s=settings.grace_period_s)
        stop.set()
        doorbell.interrupt()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop, number.name)
    if with_parent:
        stdin = sys.stdin.fileno()

        def parent_gone() -> None:
            loop.remove_reader(stdin)
            request_stop("parent gone")

        loop.add_reader(stdin, parent_gone)

    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s, settings.poll_interval_s)
    logger.info("starting", pid=os.getpid())
    stopping = asyncio.create_task(stop.wait())
    warming = asyncio.create_task(warm_up(handler_module(stage)))
    await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
    # the ears' heartbeat speaks for the hands too: the process ends with either
    heartbeat = Heartbeat(stage, MISSED_PINGS * (timing.ping_interval_s + timing.ping_deadline_s))
    ears = asyncio.create_task(
        listen(
            conninfo,
            [_CHANNEL_OF[stage]],
            timing,
            doorbell.ring,
            application=listening_application(stage),
            on_alive=heartbeat.beat,
        )
    )
    hands = asyncio.create_task(StageWorker(stage, conninfo, settings, doorbell, stop).run())
    try:
        await asyncio.wait({ears, hands, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await asyncio.wait({hands}, timeout=settings.grace_period_s + _LAST_WORDS_S)
    finally:
        tasks = (warming, ears, hands, stopping)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        heartbeat.end()
    for result in results:
        if isinstance(result, Exception):
            raise result
    logger.info("stopped")
