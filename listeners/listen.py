"""Receive notifications as long as the process lives, and notice within seconds if the connection no longer delivers them.

The tables in PostgreSQL say which batches must be processed. This module only wakes the worker, which then reads these tables:
at the start, after a reconnect and after every notification. The worker also reads them at a regular interval, because a
notification can be lost.

aiopg 1.4 needs care. Each rule below was learnt from lost notifications or from a listener that hung:
- Keep one `notifies.get()` task until it returns. If `wait_for` cancels the task, the notification that the task holds is lost.
- When PostgreSQL cancels a statement, aiopg raises CancelledError, which would end a task group silently. So raise
  another error.
- aiopg ignores `connect_timeout` in the connection string. Use the argument `timeout` of `aiopg.connect` instead.
- A connection to a frozen server never raises an error. So a ping with a deadline asks which channels the session listens on.
  The ping also finds a connected session that does not listen: after UNLISTEN, or behind a pooler that switched the server
  connection.
- Up to Python 3.11, the cancellation of a task is lost if it arrives together with a statement's answer. So check after each
  statement whether the task was cancelled.
- If a notification arrives together with a statement's answer, aiopg does not notice it until PostgreSQL sends more data. So
  fetch such notifications from psycopg2.
- Run LISTEN first and look at the tables second. In the other order, a notification between the two steps is lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiopg  # noqa: TID251  only this module may import aiopg
import psycopg
import psycopg2
import structlog
from psycopg.conninfo import make_conninfo
from psycopg2 import sql
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from db.connect import BACKOFF, CONNECT_TIMEOUT_S, conninfo_for
from db.sql import query

logger = structlog.get_logger()


class WakeSource(StrEnum):
    """The event that makes a listener look in PostgreSQL's tables for batches that wait to be processed."""

    START = "start"
    RECONNECT = "reconnect"
    NOTIFY = "notify"
    POLL = "poll"
    RETRY = "retry"


@dataclass(frozen=True)
class WakeUp:
    """A request to look in PostgreSQL's tables now for batches that wait to be processed.

    `at` is the time of the request, from time.monotonic(). `channel` and `payload` (unparsed) are empty unless a notification
    caused the request.
    """

    source: WakeSource
    at: float
    channel: str = ""
    payload: str = ""


@dataclass(frozen=True)
class Timing:
    """The intervals and the timeout of a listener, in seconds.

    Attributes:
        ping_interval_s: time between two pings of PostgreSQL.
        ping_deadline_s: if a ping has no answer after this time, the connection counts as lost.
    """

    ping_interval_s: float
    ping_deadline_s: float


class ConnectionLostError(Exception):
    """The connection that runs LISTEN is closed or frozen, or no longer receives the notifications of all channels."""


_RETRYABLE = (psycopg2.Error, psycopg.Error, ConnectionLostError, TimeoutError, OSError)


async def listen(
    conninfo: str,
    channels: Iterable[str],
    timing: Timing,
    on_wake_up: Callable[[WakeUp], None],
    *,
    application: str,
    on_alive: Callable[[], None] = lambda: None,
    state: Callable[[], str] = lambda: "",
) -> None:
    """Call `on_wake_up` whenever the caller should look for waiting batches. Reconnect if needed. End only by cancellation.

    Args:
        conninfo: a libpq connection string.
        channels: the channels to LISTEN on.
        timing: how often to ping PostgreSQL, and how long to wait for its answer.
        on_wake_up: called on the asyncio event loop, which it blocks, so it must return at once.
        application: the application_name of the connection, which pg_stat_activity shows.
        on_alive: called each time LISTEN or a ping has shown that the connection receives notifications.
        state: returns a few words that each ping appends to the application_name, so that PostgreSQL shows them.
    """
    channels = sorted(channels)
    source = WakeSource.START
    while True:
        try:
            async with _subscribed(conninfo_for(conninfo, application), channels, timing) as connection:
                on_alive()
                logger.info("listening", channels=channels, source=source)
                on_wake_up(WakeUp(source, time.monotonic()))
                await _relay(
                    connection, channels, timing, on_wake_up, on_alive, name=lambda: f"{application}{state()}"
                )
        except _RETRYABLE as error:
            logger.warning("connection lost", error=str(error).strip() or type(error).__name__)
        source = WakeSource.RECONNECT


@asynccontextmanager
async def _subscribed(conninfo: str, channels: list[str], timing: Timing) -> AsyncIterator[Any]:
    retrying = AsyncRetrying(retry=retry_if_exception_type(_RETRYABLE), wait=BACKOFF, before_sleep=_log_retry)
    connection: Any = await retrying(_connect_and_subscribe, conninfo, channels, timing)
    try:
        yield connection
    finally:
        await connection.close()


async def _connect_and_subscribe(conninfo: str, channels: list[str], timing: Timing) -> Any:
    """Connect to PostgreSQL, run LISTEN for all channels, and return the connection.

    A standby server accepts the connection but rejects LISTEN. So the caller retries the two steps together.
    """
    connection = await _connect(conninfo)
    try:
        await _subscribe(connection, channels, timing)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _connect(conninfo: str) -> Any:
    async with _translate_cancellation():
        return await aiopg.connect(
            await _server_address(conninfo),
            timeout=CONNECT_TIMEOUT_S,
            enable_json=False,
            enable_hstore=False,
            enable_uuid=False,
        )


async def _server_address(conninfo: str) -> str:
    """Return `conninfo` with a single address: that of the first server that accepts a connection.

    libpq tries each host and port in order, and each address of a host name. aiopg cannot do this: it watches only the socket of
    the first try. So psycopg finds the address.
    """
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        info = connection.info
        address = {"hostaddr": info.hostaddr} if info.hostaddr else {}
        return make_conninfo(conninfo, host=info.host, port=info.port, target_session_attrs="any", **address)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    delay = state.next_action.sleep if state.next_action else 0.0
    logger.warning(
        "cannot connect", error=str(error).strip(), attempt=state.attempt_number, next_in_s=round(delay, 2)
    )


@asynccontextmanager
async def _translate_cancellation() -> AsyncIterator[None]:
    """If PostgreSQL cancels the statement in the `with` block, raise ConnectionLostError instead of aiopg's CancelledError.

    Raises:
        ConnectionLostError: PostgreSQL cancelled the statement.
        CancelledError: the asyncio task was cancelled.
    """
    task = asyncio.current_task()
    try:
        yield
    except BaseException as error:
        if task is not None and task.cancelling():
            # A library may turn the cancellation into another error, such as a lost connection.
            raise asyncio.CancelledError from error
        if isinstance(error, asyncio.CancelledError):
            raise ConnectionLostError("PostgreSQL cancelled a statement of this connection") from error
        raise
    if task is not None and task.cancelling():
        # aiopg calls asyncio.wait_for. Up to Python 3.11, wait_for loses the cancellation of a task if PostgreSQL's answer
        # arrives at the same time. So the cancellation is repeated here.
        raise asyncio.CancelledError


async def _subscribe(connection: Any, channels: list[str], timing: Timing) -> None:
    async with _translate_cancellation(), connection.cursor(timeout=timing.ping_deadline_s) as cursor:
        await cursor.execute(query("session/pin_settings"))
        for channel in channels:
            await cursor.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))


async def _relay(
    connection: Any,
    channels: list[str],
    timing: Timing,
    on_wake_up: Callable[[WakeUp], None],
    on_alive: Callable[[], None],
    *,
    name: Callable[[], str],
) -> None:
    next_ping = time.monotonic() + timing.ping_interval_s
    notification = asyncio.ensure_future(connection.notifies.get())
    try:
        while True:
            await asyncio.wait({notification}, timeout=max(0.0, next_ping - time.monotonic()))
            now = time.monotonic()
            if notification.done():
                for received in (notification.result(), *_queued(connection.notifies)):
                    on_wake_up(WakeUp(WakeSource.NOTIFY, now, received.channel, received.payload))
                notification = asyncio.ensure_future(connection.notifies.get())
            if now >= next_ping:
                for received in await _ping(connection, channels, timing, name()):
                    on_wake_up(
                        WakeUp(WakeSource.NOTIFY, time.monotonic(), received.channel, received.payload)
                    )
                on_alive()
                next_ping = time.monotonic() + timing.ping_interval_s
    finally:
        notification.cancel()


def _queued(notifies: Any) -> Iterator[Any]:
    """Yield the notifications that are already in the queue, without waiting for more.

    Waiting with a timeout would create a task and a timer for each notification. This is too slow if very many arrive.
    """
    while not notifies.empty():
        yield notifies.get_nowait()


async def _ping(connection: Any, channels: list[str], timing: Timing, name: str) -> list[Any]:
    """Check that the session still listens on all channels, and set its application_name to `name`.

    Return the notifications that came with PostgreSQL's answer.
    """
    async with _translate_cancellation(), connection.cursor(timeout=timing.ping_deadline_s) as cursor:
        await cursor.execute(query("session/ping"), {"application_name": name})
        listening = {name for (name,) in await cursor.fetchall()}
    if not listening.issuperset(channels):
        raise ConnectionLostError(
            f"the connection no longer listens on the channels {', '.join(sorted(set(channels) - listening))}"
        )
    # psycopg2 may have read notifications together with the ping's answer. aiopg does not notice them, so fetch them here.
    connection.raw.poll()
    arrived, connection.raw.notifies[:] = list(connection.raw.notifies), []
    return arrived
