"""Run the model server: answer requests, and exchange the model when the champion moves."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import CDLL
from functools import cache
from typing import Any, Final

import structlog
import uvicorn

from db.connect import connect
from listeners.doorbell import Doorbell
from listeners.listen import Timing, WakeSource, listen
from listeners.outages import outage_of
from listeners.parent_end import at_parent_end
from listeners.serving.app import create_app
from listeners.serving.batcher import Batcher
from listeners.serving.champion import (
    APPLICATION,
    Champion,
    NotRecordedError,
    load_champion,
    recorded_champion,
    require_agreement,
)
from listeners.serving.model import ServedModel
from listeners.tracking.runs import Tracking
from shared.config import Settings
from shared.errors import PipelineError
from shared.events import Channel
from shared.listening_socket import listening_socket

logger = structlog.get_logger()

_MOST_CONNECTIONS: Final = 1_000  # further ones are answered 503

# model_trained comes right after champion_moved, and only then is the digest of the model's files recorded.
_CHANNELS: Final = (Channel.CHAMPION_MOVED, Channel.MODEL_TRAINED)


class Swapper:
    """Holds the model that is served, and exchanges it for the champion.

    A model that cannot be loaded, or is not the one that was logged, is refused: the present one goes on.

    Args:
        open_tracking: returns the access to MLflow. It is called only if there is a champion: a new store in a folder is made by
            MLflow's own server or by the listeners, and two that make it at once disturb each other.
        conninfo: connection string, with the role rakuten_server.

    Attributes:
        model: the model that is served, or None before the first one.
        problem: why the champion is not served, or cannot be checked; None if it is served.
        refused: the version that was refused; None in an outage, which says nothing about the model.
    """

    def __init__(self, open_tracking: Callable[[], Tracking], conninfo: str) -> None:
        self._open_tracking = open_tracking
        self._conninfo = conninfo
        self._champion: Champion | None = None
        self.model: ServedModel | None = None
        self.problem: str | None = None
        self.refused: int | None = None

    @property
    def state(self) -> str:
        """What the view model_servers reads from the name of the server's connection (094_model_servers.sql)."""
        version = "" if self._champion is None else f" {self._champion.version}"
        return version if self.refused is None else f"{version} refuses {self.refused}"

    async def follow(self) -> None:
        """Serve the champion, if it is not the model that is served already."""
        champion = None
        try:
            champion = await asyncio.to_thread(self._recorded)
            if champion is not None:
                await asyncio.to_thread(self._require_agreement, champion)
                if champion != self._champion:
                    await self._exchange(champion)
        except NotRecordedError as error:
            if str(error) != self.problem:
                logger.info("waiting for the training stage to record the champion")
            self.problem, self.refused = str(error), None
        except Exception as error:  # noqa: BLE001  whatever is wrong with a new model, the present one goes on
            is_refusal = champion not in {None, self._champion} and outage_of(error) is None
            self._keep_present(error, champion.version if champion and is_refusal else None)
        else:
            self.problem = self.refused = None

    def _recorded(self) -> Champion | None:
        with connect(self._conninfo, APPLICATION, autocommit=True) as connection:
            return recorded_champion(connection)

    def _require_agreement(self, champion: Champion) -> None:
        require_agreement(self._open_tracking(), champion)

    async def _exchange(self, champion: Champion) -> None:
        logger.info("loading the champion", version=champion.version, batch=champion.batch_name)
        model = await asyncio.to_thread(load_champion, self._open_tracking(), champion)
        self.model, self._champion = model, champion
        logger.info("serving", version=champion.version, batch=champion.batch_name, sha256=model.info.sha256)
        await asyncio.to_thread(_give_memory_back)

    def _keep_present(self, error: Exception, refused: int | None) -> None:
        if str(error) != self.problem:  # the poll finds the same problem again and again
            logger.warning(
                "the champion cannot be checked" if refused is None else "the champion is refused",
                serving=None if self._champion is None else self._champion.version,
                refused=refused,
                error=str(error),
                exc_info=refused is not None and not isinstance(error, PipelineError),
            )
        self.problem, self.refused = str(error), refused


def run_server(settings: Settings, conninfo: str, *, listening: socket.socket | None = None) -> None:
    """Serve the champion until SIGTERM or SIGINT. Then answer the requests that have arrived, and stop.

    Args:
        settings: the settings of the pipeline.
        conninfo: connection string, with the role rakuten_server.
        listening: a socket that the program which started the server listens on already, so that nobody else can take its port
            meanwhile; None to listen on SERVE_HOST and SERVE_PORT. With such a program, the server also stops when standard input
            closes, because the program has then ended.
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


def _give_memory_back() -> None:
    """Return the memory of the model before to the operating system, as far as the C library lets it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        CDLL("libc.so.6").malloc_trim(0)
