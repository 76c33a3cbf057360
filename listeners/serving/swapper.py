"""Exchange the model that is served when the champion has moved, while the present model continues to answer."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL

import structlog

from db.connect import connect
from listeners.outages import outage_of
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
from shared.errors import PipelineError

logger = structlog.get_logger()


class Swapper:
    """Holds the model that is served, and exchanges it for the champion.

    It refuses a model that cannot be loaded, or whose files differ from those that were logged. Then it keeps the present model.

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
        except Exception as error:  # noqa: BLE001  no error of a new model, of any library, may end the present model
            self._keep_present(error, champion)
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

    def _keep_present(self, error: Exception, champion: Champion | None) -> None:
        """Record why the present model is not exchanged for the champion, and log each new reason once."""
        is_outage = outage_of(error) is not None
        is_refusal = champion is not None and champion != self._champion and not is_outage
        self.refused = champion.version if champion and is_refusal else None
        if str(error) != self.problem:  # each poll finds the same problem again
            is_unexpected = not is_outage and not isinstance(error, PipelineError)
            logger.warning(
                "the champion is refused" if is_refusal else "the champion cannot be checked",
                serving=None if self._champion is None else self._champion.version,
                refused=self.refused,
                error=str(error),
                exc_info=is_unexpected,
            )
        self.problem = str(error)


def _give_memory_back() -> None:
    """Return the memory of the model before to the operating system, as far as the C library lets it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        CDLL("libc.so.6").malloc_trim(0)
