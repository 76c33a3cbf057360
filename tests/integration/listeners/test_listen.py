import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest
from waiting import until

import listeners.listen as module
from db.database import Role
from listeners.listen import Timing, WakeSource, listen
from shared.events import Channel

APPLICATION = "rakuten test listen"
DEADLINE_S = 30
QUICK = Timing(ping_interval_s=0.1, ping_deadline_s=0.5)
BACKEND = f"select pid from pg_stat_activity where application_name = '{APPLICATION}' and datname = current_database()"


@asynccontextmanager
async def listening(database, timing=QUICK, channels=(Channel.BATCH_COMPLETED,)):
    """Yields the list of wake-ups, once the first has come."""
    wakes = []
    task = asyncio.create_task(
        listen(database.conninfo(Role.SNAPSHOT), channels, timing, wakes.append, application=APPLICATION)
    )
    try:
        await until(lambda: wakes)
        yield wakes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def payloads(wakes):
    return [wake.payload for wake in wakes if wake.source is WakeSource.NOTIFY]


def reconnected(wakes):
    return WakeSource.RECONNECT in [wake.source for wake in wakes]


@pytest.fixture
def psql(as_superuser):
    with as_superuser(autocommit=True) as connection:
        yield lambda statement, *parameters: connection.execute(statement, parameters)


@pytest.fixture
def notify(psql):
    return lambda payload: psql("select pg_notify('batch_completed', %s)", payload)


def test_it_rings_at_the_start_and_for_each_notification(database, notify):
    async def scenario():
        async with listening(database) as wakes:
            assert wakes[0].source is WakeSource.START
            notify("one")
            notify("two")
            await until(lambda: payloads(wakes) == ["one", "two"])

    asyncio.run(scenario())


def test_no_notification_is_lost_between_pings_and_polls(database, psql):
    constantly = Timing(ping_interval_s=0.001, ping_deadline_s=5)

    async def scenario():
        async with listening(database, constantly) as wakes:
            for start in range(0, 2000, 50):
                psql(
                    "select pg_notify('batch_completed', n::text) from generate_series(%s::int, %s::int) n",
                    start,
                    start + 49,
                )
                await asyncio.sleep(0)
            await until(lambda: len(payloads(wakes)) >= 2000)
            # none lost, none twice; those that come with a ping's answer may overtake others, which rings alike
            assert sorted(map(int, payloads(wakes))) == list(range(2000))

    asyncio.run(scenario())


def test_a_notification_that_comes_with_the_answer_to_a_ping_is_heard_at_once(database, psql, notify):
    """aiopg alone leaves about one in forty of these unseen until something else arrives."""
    seldom = Timing(ping_interval_s=3600, ping_deadline_s=5)

    async def scenario():
        connection = await module._connect_and_subscribe(
            database.conninfo(Role.SNAPSHOT), [Channel.BATCH_COMPLETED], seldom
        )
        for turn in range(300):
            heard = asyncio.ensure_future(connection.notifies.get())
            notifying = asyncio.ensure_future(asyncio.to_thread(notify, str(turn)))
            await asyncio.sleep(turn % 10 * 0.0002)
            arrived = await module._ping(connection, [Channel.BATCH_COMPLETED], seldom, "test")
            await notifying
            if arrived:
                heard.cancel()
            else:
                await asyncio.wait_for(heard, DEADLINE_S / 6)
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            f"select pg_terminate_backend(pid) from ({BACKEND}) as backend", id="backend terminated"
        ),
        pytest.param("kill", id="backend frozen"),
    ],
)
def test_it_hears_again_after_losing_its_connection(database, psql, notify, fault):
    async def scenario():
        async with listening(database) as wakes:
            [pid] = psql(BACKEND).fetchone()
            if fault == "kill":
                os.kill(pid, signal.SIGSTOP)
            else:
                psql(fault)
            try:
                await until(lambda: reconnected(wakes))
            finally:
                if fault == "kill":
                    os.kill(pid, signal.SIGCONT)
            notify("after")
            await until(lambda: payloads(wakes) == ["after"])

    asyncio.run(scenario())


def test_it_notices_a_session_that_is_alive_and_deaf(database, psql, monkeypatch):
    subscribe = module._subscribe
    deaf_once = iter([True])

    async def forgetful(connection, channels, timing):
        await subscribe(connection, channels, timing)
        if next(deaf_once, False):
            async with connection.cursor() as cursor:
                await cursor.execute("unlisten *")

    monkeypatch.setattr(module, "_subscribe", forgetful)

    async def scenario():
        async with listening(database) as wakes:
            await until(lambda: reconnected(wakes))

    asyncio.run(scenario())


def test_a_statement_that_the_server_cancels_does_not_end_the_loop(database, psql, notify):
    """aiopg raises CancelledError for it, which `except Exception` would let through."""

    async def scenario():
        async with listening(database) as wakes:
            for _ in range(200):
                psql(f"select pg_cancel_backend(pid) from ({BACKEND}) as backend")
                await asyncio.sleep(0.002)
            notify("still here")
            await until(lambda: "still here" in payloads(wakes))

    asyncio.run(scenario())


def test_a_cancelled_task_ends_also_when_it_is_cancelled_during_a_ping(database):
    """Up to Python 3.11 wait_for, inside aiopg, swallows a cancellation that meets the answer."""
    constantly = Timing(ping_interval_s=0.0001, ping_deadline_s=5)

    async def scenario():
        for turn in range(60):
            async with listening(database, constantly):
                await asyncio.sleep(turn * 0.0003)

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE_S))


def test_it_waits_for_a_server_that_is_not_there_yet(database, notify, monkeypatch):
    connect, refusals = module._connect, iter([True, True])

    async def refused_twice(conninfo):
        if next(refusals, False):
            raise ConnectionRefusedError("not yet")
        return await connect(conninfo)

    monkeypatch.setattr(module, "_connect", refused_twice)

    async def scenario():
        async with listening(database) as wakes:
            notify("here")
            await until(lambda: payloads(wakes) == ["here"])

    asyncio.run(scenario())
