"""Hear notifications for as long as the process lives, and notice within seconds when nothing can be heard any more.

NOTIFY is a doorbell and the tables are the truth: this loop only says *when* to look, never what to do. It rings at the
start, after a reconnect, for every notification and, in case all else fails, at an interval.

aiopg 1.4 is used with care; each rule below was learnt by losing notifications or hanging (issue numbers are aiopg's where
one exists):
- One `notifies.get()` task lives until it returns: cancelling it, as `wait_for` does, loses the notification in its hands.
- A statement that PostgreSQL cancels surfaces as CancelledError, which would end a task group silently.
- `connect_timeout` in the connection string is ignored; `timeout` of `aiopg.connect` is not.
- A frozen server never raises, so a ping with a deadline asks which channels this session listens on. That also finds a
  session that is alive and deaf: after UNLISTEN, or behind a pooler that has handed it to another server connection.
- A cancellation that arrives together with a statement's answer is swallowed up to Python 3.11: ask for it afterwards.
- A notification that comes in with the answer to a statement lies unseen in psycopg2 until the next byte arrives: look there.
- Subscribe first, look at the tables second: the other order has a gap.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiopg  # noqa: TID251  this is the one module that may
import psycopg2
import structlog
from psycopg2 import sql
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from db.connect import BACKOFF, CONNECT_TIMEOUT_S, conninfo_for

logger = structlog.get_logger()


class WakeSource(StrEnum):
    """Why a listener looks at the tables."""

    START = "start"
    RECONNECT = "reconnect"
    NOTIFY = "notify"
    POLL = "poll"
    RETRY = "retry"


@dataclass(frozen=True)
class WakeUp:
    """A ring of the doorbell; `at` is of time.monotonic(). A notification brings its channel and payload, unread."""

    source: WakeSource
    at: float
    channel: str = ""
    payload: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds: between pings, until a ping is overdue, between polls."""

    ping_interval_s: float
    ping_deadline_s: float
    poll_interval_s: float


class ConnectionLostError(Exception):
    """The LISTEN connection is gone, frozen or deaf."""


_LOST = (psycopg2.Error, ConnectionLostError, TimeoutError, OSError)


async def listen(
    conninfo: str,
    channels: Iterable[str],
    timing: Timing,
    on_wake_up: Callable[[WakeUp], None],
    *,
    application: str,
    on_alive: Callable[[], None] = lambda: None,
) -> None:
    """Ring `on_wake_up` until cancelled, through every loss of the connection.

    Args:
        conninfo: a libpq connection string.
        channels: what to LISTEN on.
        timing: intervals and deadlines.
        on_wake_up: must return at once; it is called on the event loop.
        application: the application_name that psql shows.
        on_alive: called whenever the connection has just proven that it hears.
    """
    channels = sorted(channels)
    source = WakeSource.START
    while True:
        try:
            async with _subscribed(conninfo_for(conninfo, application), channels, timing) as connection:
                on_alive()
                logger.info("listening", channels=channels, source=source)
                on_wake_up(WakeUp(source, time.monotonic()))
                await _relay(connection, channels, timing, on_wake_up, on_alive)
        except _LOST as error:
            logger.warning("connection lost", error=str(error).strip() or type(error).__name__)
        source = WakeSource.RECONNECT


@asynccontextmanager
async def _subscribed(conninfo: str, channels: list[str], timing: Timing) -> AsyncIterator[Any]:
    retrying = AsyncRetrying(retry=retry_if_exception_type(_LOST), wait=BACKOFF, before_sleep=_log_retry)
    connection: Any = await retrying(_connect_and_subscribe, conninfo, channels, timing)
    try:
        yield connection
    finally:
        await connection.close()


async def _connect_and_subscribe(conninfo: str, channels: list[str], timing: Timing) -> Any:
    """One step for the backoff: a standby, for one, accepts connections and refuses LISTEN."""
    connection = await _connect(conninfo)
    try:
        await _subscribe(connection, channels, timing)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _connect(conninfo: str) -> Any:
    async with _statement():
        return await aiopg.connect(
            conninfo, timeout=CONNECT_TIMEOUT_S, enable_json=False, enable_hstore=False, enable_uuid=False
        )


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    delay = state.next_action.sleep if state.next_action else 0.0
    logger.warning(
        "cannot connect", error=str(error).strip(), attempt=state.attempt_number, next_in_s=round(delay, 2)
    )


@asynccontextmanager
async def _statement() -> AsyncIterator[None]:
    """Tell a statement that the server cancelled, which aiopg raises as CancelledError, from a cancelled task."""
    task = asyncio.current_task()
    try:
        yield
    except asyncio.CancelledError as error:
        if task is None or task.cancelling():
            raise
        raise ConnectionLostError("the server cancelled a statement of the LISTEN connection") from error
    if task is not None and task.cancelling():
        # aiopg waits with wait_for, which up to Python 3.11 swallows a cancellation that meets the answer
        raise asyncio.CancelledError


async def _subscribe(connection: Any, channels: list[str], timing: Timing) -> None:
    async with _statement(), connection.cursor(timeout=timing.ping_deadline_s) as cursor:
        for channel in channels:
            await cursor.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))


async def _relay(
    connection: Any,
    channels: list[str],
    timing: Timing,
    on_wake_up: Callable[[WakeUp], None],
    on_alive: Callable[[], None],
) -> None:
    next_ping = time.monotonic() + timing.ping_interval_s
    next_poll = time.monotonic() + timing.poll_interval_s
    notification = asyncio.ensure_future(connection.notifies.get())
    try:
        while True:
            await asyncio.wait({notification}, timeout=max(0.0, min(next_ping, next_poll) - time.monotonic()))
            now = time.monotonic()
            if notification.done():
                for received in (notification.result(), *_waiting(connection.notifies)):
                    on_wake_up(WakeUp(WakeSource.NOTIFY, now, received.channel, received.payload))
                notification = asyncio.ensure_future(connection.notifies.get())
            if now >= next_ping:
                for received in await _ping(connection, channels, timing):
                    on_wake_up(
                        WakeUp(WakeSource.NOTIFY, time.monotonic(), received.channel, received.payload)
                    )
                on_alive()
                next_ping = time.monotonic() + timing.ping_interval_s
            if now >= next_poll:
                on_wake_up(WakeUp(WakeSource.POLL, now))
                next_poll = now + timing.poll_interval_s
    finally:
        notification.cancel()


def _waiting(notifies: Any) -> Iterator[Any]:
    """What has arrived together with the first: a flood must not cost a task and a timer for each."""
    while not notifies.empty():
        yield notifies.get_nowait()


async def _ping(connection: Any, channels: list[str], timing: Timing) -> list[Any]:
    """Prove that the session hears; returns the notifications that came with the answer."""
    async with _statement(), connection.cursor(timeout=timing.ping_deadline_s) as cursor:
        await cursor.execute("select pg_listening_channels()")
        heard = {name for (name,) in await cursor.fetchall()}
    if not heard.issuperset(channels):
        raise ConnectionLostError(
            f"the session no longer listens on {', '.join(sorted(set(channels) - heard))}"
        )
    # psycopg2 has read them from the socket, so nothing would tell aiopg that they are there
    connection.raw.poll()
    arrived, connection.raw.notifies[:] = list(connection.raw.notifies), []
    return arrived
