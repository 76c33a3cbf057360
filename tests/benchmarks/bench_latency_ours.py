"""Ours in bench_latency: the ears alone, and a listener with its hands, each in a process of its own."""

import asyncio
import json
import time
from pathlib import Path

from bench_latency_worker import Reports, run_worker

from listeners import child
from listeners.doorbell import Doorbell
from listeners.listen import Timing, WakeSource, WakeUp, listen
from listeners.worker import StageWorker
from shared.config import read_settings
from shared.events import Channel, Stage
from shared.logs import configure_logs

_HANDLER = "latency_handler"


async def report_notifications(conninfo: str, report: Reports) -> None:
    """`listen` alone, its callback as the end."""

    def on_wake_up(wake: WakeUp) -> None:
        heard_ns = time.monotonic_ns()
        if wake.source is WakeSource.NOTIFY:
            report(json.loads(wake.payload)["batch_id"], heard_ns)
        elif wake.source is WakeSource.START:
            report.ready()

    settings = read_settings(_env_file=None)
    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s)
    await listen(conninfo, [Channel.BATCH_COMPLETED], timing, on_wake_up, application="latency")


async def work(conninfo: str, report: Reports) -> None:
    """A listener process as `listeners/run.py` puts it together, but for its handler."""
    stage, doorbell = Stage.SNAPSHOT, Doorbell()
    settings = read_settings(state_path=Path(report.address).parent, log_level="ERROR", _env_file=None)
    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s)
    # there is no MLflow to reconcile with
    await child.warm_up(_HANDLER)
    worker = StageWorker(
        stage, conninfo, settings, doorbell, asyncio.Event(), handler=_HANDLER, reconciler=None
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            listen(conninfo, [Channel.BATCH_COMPLETED], timing, doorbell.ring, application="latency")
        )
        tasks.create_task(worker.run())


def main() -> None:
    configure_logs("json", "ERROR")
    run_worker({"listen": report_notifications, "work": work})
