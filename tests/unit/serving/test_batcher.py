"""Requests that arrive together share a call of the model, and each is answered by one model alone."""

import asyncio
import threading
from contextlib import asynccontextmanager, suppress

import pytest
from waiting import until

from listeners.serving import batcher as module
from listeners.serving.batcher import Batcher, BusyError, NoModelError, PredictionError

pytestmark = pytest.mark.anyio

POOL, BOOK = ("piscine gonflable eau", None), ("roman poche livre", None)
BAD = ("a text that the model cannot predict", None)


class Counted:
    """A model whose calls can be held up, and that remembers how many products each had."""

    def __init__(self, model):
        self.model, self.info, self.calls, self.may_go_on = model, model.info, [], threading.Event()
        self.may_go_on.set()

    def guesses(self, products):
        self.calls.append(len(products))
        assert self.may_go_on.wait(10)
        if BAD[0] in list(products.designation):
            raise ValueError(BAD[0])
        return self.model.guesses(products)


@pytest.fixture
def counted(models):
    return Counted(models[1])


@asynccontextmanager
async def running(model):
    batcher = Batcher(model)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def codes(answer):
    return [guesses[0].prdtypecode for guesses in answer.guesses]


async def held_up(batcher, counted, *requests):
    """Send one request and hold its call up until the others have arrived; return the tasks of all."""
    counted.may_go_on.clear()
    tasks = [asyncio.create_task(batcher.predict([POOL]))]
    async with asyncio.timeout(10):
        await until(lambda: counted.calls)
    tasks += [asyncio.create_task(batcher.predict(texts)) for texts in requests]
    await asyncio.sleep(0)
    return tasks


async def test_what_arrives_during_a_call_shares_the_next_one(counted):
    async with running(lambda: counted) as batcher:
        tasks = await held_up(batcher, counted, [BOOK], [POOL, BOOK], [POOL])
        counted.may_go_on.set()
        answers = await asyncio.gather(*tasks)
    assert counted.calls == [1, 4]
    assert [codes(answer) for answer in answers] == [[2583], [10], [2583, 10], [2583]]


async def test_a_call_has_no_more_rows_than_are_fast_together(counted, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_TOGETHER", 3)
    async with running(lambda: counted) as batcher:
        tasks = await held_up(batcher, counted, [BOOK] * 2, [POOL] * 2, [BOOK] * 9)
        counted.may_go_on.set()
        answers = await asyncio.gather(*tasks)
    assert counted.calls == [1, 2, 2, 9]
    assert [len(answer.guesses) for answer in answers] == [1, 2, 2, 9]


async def test_each_answer_is_wholly_of_one_model_while_the_model_is_swapped(models):
    current = models[1]
    expected = {1: [2583, 10], 2: [10, 1280]}

    async def swap():
        nonlocal current
        for turn in range(40):
            await asyncio.sleep(0.005)
            current = models[1 + turn % 2]

    async with running(lambda: current) as batcher:
        swapping = asyncio.create_task(swap())
        seen = set()
        while not swapping.done():
            for answer in await asyncio.gather(*(batcher.predict([POOL, BOOK]) for _ in range(8))):
                assert codes(answer) == expected[answer.model.version]
                seen.add(answer.model.version)
    assert seen == {1, 2}


async def test_a_full_queue_refuses_and_accepts_again(counted, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING", 3)
    async with running(lambda: counted) as batcher:
        tasks = await held_up(batcher, counted, [BOOK] * 3)
        with pytest.raises(BusyError):
            await batcher.predict([POOL])
        counted.may_go_on.set()
        await asyncio.gather(*tasks)
        assert codes(await batcher.predict([POOL])) == [2583]
        assert len((await batcher.predict([POOL] * 5)).guesses) == 5  # more than may wait, but nobody waits


async def test_a_client_that_has_gone_costs_nothing(counted):
    async with running(lambda: counted) as batcher:
        first, gone, last = await held_up(batcher, counted, [BOOK] * 50, [BOOK])
        gone.cancel()
        await asyncio.sleep(0)
        counted.may_go_on.set()
        assert codes(await first) == [2583]
        assert codes(await last) == [10]
    assert counted.calls == [1, 1]


async def test_a_product_that_the_model_cannot_predict_fails_its_own_request_only(counted):
    async with running(lambda: counted) as batcher:
        tasks = await held_up(batcher, counted, [BOOK], [POOL, BAD], [POOL])
        counted.may_go_on.set()
        first, book, bad, pool = await asyncio.gather(*tasks, return_exceptions=True)
        assert [codes(first), codes(book), codes(pool)] == [[2583], [10], [2583]]
        assert (type(bad), str(bad)) == (PredictionError, "ValueError")  # and nothing of the product
        assert codes(await batcher.predict([POOL])) == [2583]
    assert counted.calls == [1, 4, 1, 2, 1, 1]


async def test_without_a_model_there_is_no_answer():
    async with running(lambda: None) as batcher:
        with pytest.raises(NoModelError):
            await batcher.predict([POOL])
