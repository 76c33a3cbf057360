"""A stop is a stop in every state of a listener."""

import asyncio
import signal
import socket
import subprocess
import sys
import time

import pytest
from waiting import eventually

from listeners import run
from listeners.listen import ConnectionLostError, _translate_cancellation

GRACE_S = 20.0  # GRACE_PERIOD_S, its default
MARGIN_S = 15.0  # for a busy machine


@pytest.fixture
def listener(tmp_path):
    """A listener of a server that does not answer; ended after the test."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(port),
        "POSTGRES_USER": "nobody",
        "STATE_PATH": str(tmp_path / "state"),
        "PATH": "/usr/bin:/bin",
        "LOG_FORMAT": "json",
        "POLL_INTERVAL_S": "0.5",
    }
    log = tmp_path / "listener.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "rakuten", "listen", "snapshot"],
            env=settings,
            stdout=output,
            stderr=output,
        )
    yield process, log
    process.kill()
    process.wait()


def said(log) -> set[str]:
    return {words for words in ("cannot connect", "trying again", '"stopped"') if words in log.read_text()}


def test_a_listener_that_cannot_connect_stops_within_the_margin(listener):
    process, log = listener
    eventually(lambda: {"cannot connect", "trying again"} <= said(log), 180, report=log.read_text)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert process.wait(GRACE_S + MARGIN_S) == 0
    assert (
        time.monotonic() - asked < GRACE_S
    )  # there is no work to finish, so the grace period is not waited for
    assert '"stopped"' in said(log)


def test_a_cancellation_that_a_library_turns_into_another_error_stays_one():
    async def turn_into_another_error() -> None:
        async with _translate_cancellation():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise OSError("the socket was closed") from None

    async def scenario():
        task = asyncio.create_task(turn_into_another_error())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_cancellation_by_postgresql_is_a_lost_connection():
    async def scenario():
        async with _translate_cancellation():
            raise asyncio.CancelledError

    with pytest.raises(ConnectionLostError):
        asyncio.run(scenario())


def test_a_listener_that_does_not_stop_is_ended(tmp_path):
    """The event loop is blocked for good, as no library should, and the process ends all the same."""
    script = "from listeners.run import _end_after; import time; _end_after(0.2); time.sleep(600)"
    ended = subprocess.run(
        [sys.executable, "-c", script], timeout=60, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert run.STOPPED_TOO_LATE in ended.stdout + ended.stderr
