import asyncio
import time
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

import listeners.doorbell as module
from listeners.doorbell import Doorbell
from listeners.listen import WakeSource, WakeUp


def notified(payload: str, channel: str = "batch_completed") -> WakeUp:
    return WakeUp(WakeSource.NOTIFY, time.monotonic(), channel, payload)


START = WakeUp(WakeSource.START, 0.0)


@pytest.fixture
def doorbell():
    return Doorbell()


def wait(doorbell, timeout_s=0.01):
    return asyncio.run(doorbell.wait(timeout_s))


def test_many_rings_wake_once_with_the_first(doorbell):
    doorbell.ring(START)
    doorbell.ring(WakeUp(WakeSource.POLL, 1.0))
    assert wait(doorbell) == START
    assert wait(doorbell).source is WakeSource.RETRY


def test_each_batch_remembers_its_first_notification_until_it_is_claimed(doorbell):
    doorbell.ring(
        WakeUp(WakeSource.NOTIFY, time.monotonic() - 9.0, "batch_completed", '{"v": 1, "batch_id": 7}')
    )
    doorbell.ring(notified('{"v": 1, "batch_id": 7}'))
    assert doorbell.notified()[7] >= 9.0
    doorbell.forget(7)
    assert doorbell.notified() == {}


@pytest.mark.parametrize(
    "wake",
    [
        notified("garbage"),
        notified('{"v": 2, "batch_id": 7}'),
        notified('{"v": 1, "batch_id": "7"}'),
        notified('{"v": 1, "batch_id": 7, "drop": "table"}'),
        notified("x" * 7999),
        notified('{"v": 1, "batch_id": 7}', channel="elsewhere"),
    ],
)
def test_a_forged_notification_rings_nothing(doorbell, wake):
    async def scenario():
        doorbell.ring(wake)
        return await doorbell.wait(0.01)

    assert asyncio.run(scenario()).source is WakeSource.RETRY


def test_a_flood_of_rejected_notifications_is_logged_as_its_first_and_a_count(doorbell, monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=100.0)
    monkeypatch.setattr(module, "time", clock)
    with capture_logs() as logged:
        for _ in range(1000):
            doorbell.ring(notified("garbage"))
        clock.now += 11
        doorbell.ring(notified("garbage"))
    assert [(entry["event"], entry["count"]) for entry in logged] == [
        ("notification rejected", 1),
        ("notification rejected", 1000),
    ]


def test_a_flood_of_forged_batches_does_not_grow_the_memory(doorbell):
    for batch_id in range(1, 5000):
        doorbell.ring(notified(f'{{"v": 1, "batch_id": {batch_id}}}'))
    assert len(doorbell._notified) <= 1024


def test_an_interrupted_wait_brings_no_wake_up(doorbell):
    doorbell.interrupt()
    assert wait(doorbell) is None
