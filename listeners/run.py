"""Run the listener process of a stage: a task that LISTENs, a worker that works on batches, and an orderly shutdown."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from db.batches import listening_application
from listeners.child import warm_up
from listeners.doorbell import Doorbell
from listeners.health import Heartbeat
from listeners.job import handler_module
from listeners.listen import Timing, WakeUp, listen
from listeners.monitoring.process_state import ProcessState
from listeners.parent_end import at_parent_end
from listeners.worker import StageWorker
from shared.config import Settings
from shared.events import Channel, Stage

logger = structlog.get_logger()

_CHANNEL_OF = {Stage.SNAPSHOT: Channel.BATCH_COMPLETED, Stage.TRAINING: Channel.DATASET_READY}
_SHUTDOWN_MARGIN_S = 5.0  # extra time after the grace period, to release the unfinished batch in PostgreSQL
STOPPED_TOO_LATE = "the listener did not stop in time: ending its process"
# After this many late or failed pings of PostgreSQL, the listener's health check fails, and `rakuten doctor` reports the
# listener as unresponsive.
MISSED_PINGS = 3


def run_listener(stage: Stage, conninfo: str, settings: Settings, *, with_parent: bool = False) -> None:
    """Run a listener until SIGTERM or SIGINT. Then finish the current batch within the grace period, or release it.

    Args:
        stage: the stage whose work the listener does, snapshot or training.
        conninfo: the connection string, with the PostgreSQL role of that stage.
        settings: the settings of the pipeline.
        with_parent: also stop when standard input closes, because the program that started the listener has then ended.
    """
    asyncio.run(_run(stage, conninfo, settings, with_parent=with_parent))


async def _run(stage: Stage, conninfo: str, settings: Settings, *, with_parent: bool) -> None:
    stop, doorbell = asyncio.Event(), Doorbell()
    structlog.contextvars.bind_contextvars(stage=stage)

    def request_stop(name: str) -> None:
        if not stop.is_set():
            logger.info("stopping", signal=name, grace_period_s=settings.grace_period_s)
            _end_after(settings.grace_period_s + 2 * _SHUTDOWN_MARGIN_S)
        stop.set()
        doorbell.interrupt()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop, number.name)
    if with_parent:
        at_parent_end(lambda: request_stop("parent ended"))

    logger.info("starting", pid=os.getpid())
    worker = StageWorker(stage, conninfo, settings, doorbell, stop)
    process = ProcessState(stage, worker)
    async with _metrics(settings, conninfo, process):
        await _listen_and_work(
            conninfo, settings, worker=worker, process=process, doorbell=doorbell, stop=stop
        )
    logger.info("stopped")


async def _listen_and_work(
    conninfo: str,
    settings: Settings,
    *,
    worker: StageWorker,
    process: ProcessState,
    doorbell: Doorbell,
    stop: asyncio.Event,
) -> None:
    stage, timing = process.stage, Timing(settings.ping_interval_s, settings.ping_deadline_s)
    stopping = asyncio.create_task(stop.wait())
    warming = asyncio.create_task(warm_up(handler_module(stage)))
    await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
    heartbeat_s = MISSED_PINGS * (timing.ping_interval_s + timing.ping_deadline_s)
    heartbeat = Heartbeat(stage, heartbeat_s, worker.is_responsive)

    def wake_up(wake: WakeUp) -> None:
        process.wake_up(wake)
        doorbell.ring(wake)

    def alive() -> None:
        process.alive()
        heartbeat.beat()

    listening = asyncio.create_task(
        listen(
            conninfo,
            [_CHANNEL_OF[stage]],
            timing,
            wake_up,
            application=listening_application(stage),
            on_alive=alive,
        )
    )
    working = asyncio.create_task(worker.run())
    try:
        await asyncio.wait({listening, working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            grace_s = settings.grace_period_s if worker.has_claim else 0.0
            await asyncio.wait({working}, timeout=grace_s + _SHUTDOWN_MARGIN_S)
    finally:
        tasks = (warming, listening, working, stopping)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        heartbeat.end()
    for result in results:
        if isinstance(result, Exception):
            raise result


@asynccontextmanager
async def _metrics(settings: Settings, conninfo: str, process: ProcessState) -> AsyncIterator[None]:
    """Answer /metrics during the `async with` block, if METRICS_PORT is set."""
    if settings.metrics_port is None:
        yield
        return
    from listeners.monitoring.exporter import Exporter  # noqa: PLC0415  only a listener with METRICS_PORT needs it

    exporter = Exporter(settings, conninfo, process)
    try:
        yield
    finally:
        await exporter.close()


def _end_after(seconds: float) -> None:
    """End this process after this time, even if a task still runs because a library has lost its cancellation.

    PostgreSQL releases the claim when the connection ends, and a child process ends itself when its parent has ended.
    """

    def end() -> None:
        logger.error(STOPPED_TOO_LATE)
        os._exit(1)

    watchdog = threading.Timer(seconds, end)
    watchdog.daemon = True
    watchdog.start()
