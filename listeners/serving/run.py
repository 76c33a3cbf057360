"""Run the model server: answer requests, and exchange the model when the champion moves."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from ctypes import CDLL
from typing import Any, Final

import psycopg
import structlog
import uvicorn
from mlflow.exceptions import MlflowException

from db.connect import connect
from listeners.doorbell import Doorbell
from listeners.listen import Timing, WakeSource, listen
from listeners.serving.app import create_app
from listeners.serving.batcher import Batcher
from listeners.serving.champion import Champion, find_champion, load_champion
from listeners.serving.model import ServedModel
from listeners.tracking.runs import Tracking
from shared.config import Settings
from shared.errors import PipelineError
from shared.events import Channel

logger = structlog.get_logger()

# model_trained comes right after champion_moved, and only then is the digest of the model's files recorded.
_CHANNELS: Final = (Channel.CHAMPION_MOVED, Channel.MODEL_TRAINED)
APPLICATION: Final = "rakuten server"


class Swapper:
    """Holds the model that is served, and exchanges it for the champion.

    A model that cannot be loaded, or is not the one that was logged, is refused: the present one goes on.

    Attributes:
        model: the model that is served, or None before the first one.
        problem: why the champion is not served; None if it is.
    """

    def __init__(self, tracking: Tracking, conninfo: str) -> None:
        self._tracking = tracking
        self._conninfo = conninfo
        self._champion: Champion | None = None
        self.model: ServedModel | None = None
        self.problem: str | None = None

    async def follow(self) -> None:
        """Serve the champion, if it is not the model that is served already."""
        try:
            champion = await asyncio.to_thread(self._find)
            if champion is None or champion == self._champion:
                self.problem = None
                return
            logger.info("loading the champion", version=champion.version, batch=champion.batch_name)
            model = await asyncio.to_thread(load_champion, self._tracking, champion)
        except (PipelineError, psycopg.Error, MlflowException, OSError) as error:
            self._refuse(str(error))
            return
        self.model, self._champion, self.problem = model, champion, None
        logger.info("serving", version=champion.version, batch=champion.batch_name, sha256=model.info.sha256)
        await asyncio.to_thread(_give_memory_back)

    def _find(self) -> Champion | None:
        with connect(self._conninfo, APPLICATION, autocommit=True) as connection:
            return find_champion(self._tracking, connection)

    def _refuse(self, problem: str) -> None:
        if problem != self.problem:  # the poll finds the same problem again and again
            kept = None if self.model is None else self.model.info.version
            logger.warning("the champion is not served", serving_version=kept, error=problem)
        self.problem = problem


def run_server(settings: Settings, tracking: Tracking, conninfo: str) -> None:
    """Serve the champion until SIGTERM or SIGINT. Then answer the requests that have arrived, and stop."""
    asyncio.run(_serve_champion(settings, tracking, conninfo))


def run_fixed(settings: Settings, model: ServedModel) -> None:
    """Serve one model, without a database, until SIGTERM or SIGINT."""
    asyncio.run(_serve(settings, lambda: model, []))


async def _serve_champion(settings: Settings, tracking: Tracking, conninfo: str) -> None:
    swapper, doorbell = Swapper(tracking, conninfo), Doorbell()

    async def follow() -> None:
        while True:
            await swapper.follow()
            await doorbell.wait(settings.poll_interval_s, WakeSource.POLL)

    timing = Timing(settings.ping_interval_s, settings.ping_deadline_s)
    listening = listen(conninfo, _CHANNELS, timing, doorbell.ring, application=APPLICATION)
    await _serve(settings, lambda: swapper.model, [listening, follow()])


async def _serve(
    settings: Settings, model: Callable[[], ServedModel | None], others: Sequence[Coroutine[Any, Any, None]]
) -> None:
    batcher = Batcher(model)
    token = settings.serve_token
    app = create_app(model, batcher, None if token is None else token.get_secret_value())
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.serve_host,
            port=settings.serve_port,
            log_config=None,
            access_log=False,  # it would show no text of a request, but a line for each
            timeout_graceful_shutdown=max(1, round(settings.grace_period_s)),
        )
    )
    serving = asyncio.create_task(server.serve())
    tasks = [asyncio.create_task(other) for other in (batcher.run(), *others)]
    await asyncio.wait({serving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await asyncio.wait({serving})
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(serving, *tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _give_memory_back() -> None:
    """Return the memory of the model before to the operating system, as far as the C library lets it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        CDLL("libc.so.6").malloc_trim(0)
