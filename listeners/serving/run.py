"""Run the model server: an HTTP server, a LISTEN task, and a task that exchanges the model when the champion moves."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import structlog
import uvicorn

from listeners.doorbell import Doorbell
from listeners.listen import Timing, WakeSource, listen
from listeners.parent_end import at_parent_end
from listeners.serving.app import create_app
from listeners.serving.batcher import Batcher
from listeners.serving.champion import APPLICATION
from listeners.serving.model import ServedModel
from listeners.serving.swapper import Swapper
from listeners.tracking.runs import Tracking
from shared.config import Settings
from shared.events import Channel
from shared.listening_socket import listening_socket

logger = structlog.get_logger()

_MOST_CONNECTIONS: Final = 1_000  # further ones are answered 503

# model_trained comes right after champion_moved, and only then is the digest of the model's files recorded.
_CHANNELS: Final = (Channel.CHAMPION_MOVED, Channel.MODEL_TRAINED)


def run_server(settings: Settings, conninfo: str, *, listening: socket.socket | None = None) -> None:
    """Serve the champion until SIGTERM or SIGINT. Then answer the requests that have arrived, and stop.

    Args:
        settings: the settings of the pipeline.
        conninfo: connection string, with the role rakuten_server.
        listening: a socket on which the parent process listens already, or None to listen on SERVE_HOST and SERVE_PORT. If the parent
            opens the socket, no other process can take the port while this process starts. A server with such a parent also
            stops when standard input closes, because the parent has then ended.
    """
    asyncio.run(_serve_champion(settings, conninfo, listening))


def run_fixed(settings: Settings, model: ServedModel) -> None:
    """Serve one model, without a database, until SIGTERM or SIGINT."""
    asyncio.run(_serve(settings, lambda: model, []))


async def _serve_champion(settings: Settings, conninfo: str, given: socket.socket | None) -> None:
    swapper, doorbell = Swapper(cache(lambda: Tracking(settings)), conninfo), Doorbell()

    async def follow() -> None:
        delay_s = settings.poll_interval_s
        while True:
            await swapper.follow()
            # A model that was refused is downloaded again each time. A notification ends the wait at once.
            longest_s = settings.poll_interval_s if swapper.refused is None else settings.retry_max_s
            delay_s = min(2 * delay_s, longest_s)
            await doorbell.wait(delay_s, WakeSource.POLL)

    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s)
    listening = listen(
        conninfo, _CHANNELS, timing, doorbell.ring, application=APPLICATION, state=lambda: swapper.state
    )
    await _serve(
        settings,
        lambda: swapper.model,
        [listening, follow()],
        refused=lambda: swapper.refused,
        given=given,
    )


async def _serve(
    settings: Settings,
    model: Callable[[], ServedModel | None],
    others: Sequence[Coroutine[Any, Any, None]],
    *,
    refused: Callable[[], int | None] = lambda: None,
    given: socket.socket | None = None,
) -> None:
    gc.collect()
    gc.freeze()  # the objects of the imported modules stay, and looking at them after each exchange would take 0.2 s
    batcher = Batcher(model)
    token = settings.serve_token
    app = create_app(model, batcher, None if token is None else token.get_secret_value(), refused)
    listening = given or listening_socket(settings.serve_host, settings.serve_port)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            http="h11",  # httptools, which uvicorn prefers where it is installed, does not limit the length of a header
            limit_concurrency=_MOST_CONNECTIONS,
            access_log=False,  # it would show no text of a request, but a line for each
            timeout_graceful_shutdown=max(1, round(settings.grace_period_s)),
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    if given is not None:
        at_parent_end(server.stop)
    serving = asyncio.create_task(server.serve([listening]))
    logger.info("answering", address=listening.getsockname())
    tasks = [asyncio.create_task(other) for other in (batcher.run(), *others)]
    await asyncio.wait({serving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    await asyncio.wait({serving})
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(serving, *tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class _Server(uvicorn.Server):
    """A server whose process ends with exit code 0 after SIGTERM. uvicorn's own would end by the signal, like a crash."""

    def stop(self) -> None:
        """Answer the requests that have arrived, and end."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `_serve`."""
        yield
