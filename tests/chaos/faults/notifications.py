"""Notifications lost, doubled, reordered and forged, some and ten thousand a second."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import flood
import psutil
from measure import is_done, wait_until
from runs import Fault, Run

from shared.events import Channel, Stage

FLOOD_S = 60
FLOOD_BATCHES = 10
DELAY_BOUND_S = 1.0
MEMORY_BOUND_BYTES = 50 * 2**20
CHANNELS = {Stage.SNAPSHOT: Channel.BATCH_COMPLETED, Stage.TRAINING: Channel.DATASET_READY}


def lose(run: Run):
    """The batch is completed, and its notification never sent."""
    with run.environment.silence():
        run.load()
    run.ended()
    yield


def double(run: Run):
    """Each batch is announced a hundred times, before it is there and after."""
    environment = run.environment
    first = environment.query("select coalesce(max(id), 0) + 1 as id from data_loads")[0]["id"]
    _announce(run, [first] * 50)
    run.load()
    _announce(run, [first] * 50)
    run.ended()
    yield
    run.require(environment.attempt(first, Stage.SNAPSHOT) == 1, "a doubled notification was worked on twice")


def reorder(run: Run):
    """Three batches are announced last one first, and the datasets before the batches."""
    environment = run.environment
    with environment.silence():
        batch_ids = [run.load() for _ in range(3)]
    _announce(run, reversed(batch_ids))
    run.ended()
    yield
    attempts = [environment.attempt(batch_id, stage) for batch_id in batch_ids for stage in Stage]
    run.require(attempts == [1] * 6, f"attempts {attempts}")


def _announce(run: Run, batch_ids) -> None:
    for batch_id in batch_ids:
        for channel, more in ((Channel.DATASET_READY, ', "run_id": "none"'), (Channel.BATCH_COMPLETED, "")):
            payload = f'{{"v": 1, "batch_id": {batch_id}{more}}}'
            run.environment.query("select pg_notify(%s, %s)", channel, payload)


def forge(run: Run, *, payload: str):
    """Nonsense on both channels, then a week."""
    environment = run.environment
    for channel in CHANNELS.values():
        for _ in range(20):
            environment.query("select pg_notify(%s, %s)", channel, payload)
    batch_id = run.load()
    run.ended()
    yield
    attempts = [environment.attempt(batch_id, stage) for stage in Stage]
    run.require(attempts == [1, 1], f"attempts {attempts}")


def flood_with_forgeries(run: Run, *, stage: Stage):
    """Ten thousand a second for a minute: by how much is a real batch claimed later, and how much does the listener grow?"""
    environment = run.environment
    undisturbed = sorted(_claim_delay(run, stage) for _ in range(3))[1]
    [listener] = [psutil.Process(pid) for pid in environment.fleet.pids(stage)]
    before, peak = listener.memory_info().rss, 0
    delays = []
    sender = subprocess.Popen(
        [
            sys.executable,
            Path(flood.__file__),
            environment.observer_conninfo(),
            CHANNELS[stage],
            str(FLOOD_S),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + FLOOD_S
        while sender.poll() is None and time.monotonic() < deadline:
            delays.append(_claim_delay(run, stage))
            peak = max(peak, listener.memory_info().rss)
        sent = int(sender.communicate(timeout=60)[0])
    finally:
        sender.kill()
        sender.wait()
    run.ended()
    run.measured_s = max(delays) - undisturbed
    run.notes = {"sent": sent, "undisturbed_s": undisturbed, "batches": len(delays)}
    run.require(sent >= flood.RATE * FLOOD_S * 0.95, f"only {sent:,} were sent")
    run.require(len(delays) >= FLOOD_BATCHES / 2, f"only {len(delays)} batches were measured")
    yield
    grown = max(peak, listener.memory_info().rss) - before
    run.notes["grown_mb"] = round(grown / 2**20, 1)
    run.require(grown <= MEMORY_BOUND_BYTES, f"grew by {grown / 2**20:.0f} MB")


def _claim_delay(run: Run, stage: Stage) -> float:
    """Seconds from the commit that makes a stage's work possible to its claim, on PostgreSQL's clock."""
    environment = run.environment
    batch_id = run.load()
    wait_until(lambda: is_done(environment, [batch_id]))
    since = (
        "completed_at" if stage == Stage.SNAPSHOT else "(metadata #>> '{snapshot,finished_at}')::timestamptz"
    )
    [row] = environment.query(
        f"select extract(epoch from (metadata #>> array[%s, 'claimed_at'])::timestamptz - {since})::float8 as delay"
        " from data_loads where id = %s",
        stage,
        batch_id,
    )
    return row["delay"]


FORGERIES = {
    "wrong JSON": "{nonsense",
    "wrong version": '{"v": 2, "batch_id": 1}',
    "unknown batch": '{"v": 1, "batch_id": 999999999}',
    "7,999 bytes": "x" * 7_999,
}

FAULTS = [
    Fault("notification lost", "", lose, runs=3),
    Fault("notifications doubled", "", double, runs=5, short=True, measures="done"),
    Fault("notifications reordered", "", reorder, runs=3, measures="done"),
    *(
        Fault(
            "notifications forged",
            what,
            partial(forge, payload=payload),
            measures="done",
            runs=4,
        )
        for what, payload in FORGERIES.items()
    ),
    *(
        Fault(
            "10,000 forgeries a second",
            stage,
            partial(flood_with_forgeries, stage=stage),
            runs=1,
            bound_s=DELAY_BOUND_S,
            measures="delay",
        )
        for stage in Stage
    ),
]
