"""Predict requests that arrive together in one call, because a call for 32 products takes little longer than one for one product.

No request waits for others on purpose: while one call runs in a thread, new requests queue up, and the next call takes them all.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from traceback import extract_tb
from typing import Final

import pandas as pd
import structlog

from listeners.serving.model import Guess, ModelInfo, ServedModel
from listeners.training.text import TEXT_COLUMNS

logger = structlog.get_logger()

Texts = tuple[str | None, str | None]
"""The title and the description of a product."""

_ROWS_TOGETHER: Final = 256  # a call with more rows is not faster for each row, and others would wait longer
_MOST_WAITING: Final = 4096  # rows; some seconds of work


class BusyError(Exception):
    """So many products wait already that this request would wait for too long."""


class NoModelError(Exception):
    """There is no model yet."""


class PredictionError(Exception):
    """The model raised an error for the products of this request. The message names only the type of the error."""


@dataclass(frozen=True)
class Answer:
    """The guesses for each product of one request, all by one model."""

    model: ModelInfo
    guesses: list[list[Guess]]


@dataclass(frozen=True)
class _Request:
    texts: Sequence[Texts]
    answer: "asyncio.Future[Answer]"


class Batcher:
    """A queue of requests, and the task that answers them (`run`).

    Args:
        model: returns the model to predict with, or None. It is called once for each call of the model, so that all
            products of a request get their guesses from one model.

    Attributes:
        rows_waiting: products that wait for a prediction.
    """

    def __init__(self, model: Callable[[], ServedModel | None]) -> None:
        self._model = model
        self._waiting: deque[_Request] = deque()
        self.rows_waiting = 0
        self._arrived = asyncio.Event()

    async def predict(self, texts: Sequence[Texts]) -> Answer:
        """Return the guesses for these products.

        Raises:
            NoModelError: there is no model yet.
            BusyError: too many products wait.
            PredictionError: the model raised an error.
        """
        if self._model() is None:
            raise NoModelError
        if self.rows_waiting and self.rows_waiting + len(texts) > _MOST_WAITING:
            raise BusyError
        request = _Request(texts, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self.rows_waiting += len(texts)
        self._arrived.set()
        return await request.answer

    async def run(self) -> None:
        """Answer requests until the task is cancelled."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict") as thread:
            while True:
                await self._arrived.wait()
                # While this waits, it must not refer to a model: the model may be exchanged and its memory given back.
                await self._answer_waiting(thread)

    async def _answer_waiting(self, thread: ThreadPoolExecutor) -> None:
        """Answer the requests that go into one call of the model."""
        requests, model = self._take(), self._model()
        if model is None:
            self._fail(requests, NoModelError())
        elif requests:
            await self._predict(thread, model, requests)

    async def _predict(
        self, thread: ThreadPoolExecutor, model: ServedModel, requests: Sequence[_Request]
    ) -> None:
        """Answer requests in one call of the model. If the call fails, answer each request in a call of its own.

        So a product for which the model raises an error fails only its own request.
        """
        texts = [pair for request in requests for pair in request.texts]
        try:
            guesses = await asyncio.get_running_loop().run_in_executor(thread, _guesses, model, texts)
        except Exception as error:  # noqa: BLE001  a model of any trainer may raise any error
            if len(requests) > 1:
                for request in requests:
                    await self._predict(thread, model, [request])
                return
            # The message of the error may repeat the text of the product, so only its type and place are logged.
            name, raised = type(error).__name__, extract_tb(error.__traceback__)[-1]
            logger.warning("the model failed", error=name, place=f"{raised.filename}:{raised.lineno}")
            self._fail(requests, PredictionError(name))
        else:
            self._answer(requests, model.info, guesses)

    def _take(self) -> list[_Request]:
        """Take the requests for one call, except those whose clients have closed the connection."""
        taken: list[_Request] = []
        rows = 0
        while self._waiting and (not taken or rows + len(self._waiting[0].texts) <= _ROWS_TOGETHER):
            request = self._waiting.popleft()
            self.rows_waiting -= len(request.texts)
            if not request.answer.cancelled():
                taken.append(request)
                rows += len(request.texts)
        if not self._waiting:
            self._arrived.clear()
        return taken

    @staticmethod
    def _answer(requests: Sequence[_Request], model: ModelInfo, guesses: list[list[Guess]]) -> None:
        first = 0
        for request in requests:
            after = first + len(request.texts)
            if not request.answer.cancelled():
                request.answer.set_result(Answer(model, guesses[first:after]))
            first = after

    @staticmethod
    def _fail(requests: Sequence[_Request], error: Exception) -> None:
        for request in requests:
            if not request.answer.cancelled():
                request.answer.set_exception(error)


def _guesses(model: ServedModel, texts: Sequence[Texts]) -> list[list[Guess]]:
    return model.guesses(pd.DataFrame(texts, columns=list(TEXT_COLUMNS)))
