"""The heavy work, in a process of its own: the event loop keeps beating, and memory is given back when the work is done.

Children are forked from a server that has imported the heavy libraries once, at the listener's start, and one is forked
ahead of its work: a wake-up pays neither for their import nor for a fork. A child that loses its parent ends itself: its claim is free
by then, and another worker may have taken it.
"""

import asyncio
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, Self

import structlog

from listeners.claims import Claim
from listeners.job import Handler, Job, Task
from shared.errors import FencedError, OutageError, PipelineError, StageError
from shared.logs import censor, configure_logs

logger = structlog.get_logger()

RECONCILE = "listeners.reconcile"
# imported by name in the child only: the listener itself has no use for MLflow, and starts sooner without it
_OUTAGES = "listeners.outages"
# public modules that matplotlib and MLflow import on first use
_FIRST_USE = ("matplotlib.backends.backend_agg", "mlflow.pyfunc", "skops.io")
_ORPHANED = 70  # exit code (EX_SOFTWARE) of a child whose parent is gone
_TERMINATION_S = 5.0


async def warm_up(handler: str) -> None:
    """Start the fork server and wait until it has imported the handler, and with it the heavy libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_OUTAGES, RECONCILE, handler, *_FIRST_USE])
    first = context.Process(target=int, daemon=True)
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(first.join)
    first.close()


class Children:
    """One child at work, and the next one already waiting; all for the same stage, database and settings."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._next: asyncio.Task[Child] | None = None

    async def __aenter__(self) -> Self:
        self._next = asyncio.create_task(self._start())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._next is not None:
            await (await self._next).end()

    @asynccontextmanager
    async def at_work(self, handler: str, claim: Claim | None = None) -> AsyncIterator["Child"]:
        """A child that does what the handler says; one that still runs at the end of the block is terminated."""
        if self._next is None:
            raise RuntimeError("children are started by `async with`")
        child = await self._next
        if not child.submit(handler, claim):
            await child.end()
            child = await self._start()
            child.submit(handler, claim)
        try:
            yield child
        finally:
            # not before: forking would take the processor from the child that has just been woken
            self._next = asyncio.create_task(self._start())
            await child.end()

    async def _start(self) -> "Child":
        child = Child(self._task)
        await child.start()
        return child


class Child:
    """A process that waits for its one batch, works on it and ends. All that can be known before is prepared before."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, self._child_end = context.Pipe()
        self._process: ForkServerProcess = context.Process(
            target=_run, args=(self._child_end, task), name=f"{task.stage} child", daemon=True
        )
        self._done = False

    async def start(self) -> None:
        await asyncio.to_thread(self._process.start)
        self._child_end.close()

    async def end(self) -> None:
        """Wait for a child that has answered; terminate any other."""
        if self._done:
            await asyncio.to_thread(self._process.join, _TERMINATION_S)
        if self._process.is_alive():
            self._process.terminate()
            await asyncio.to_thread(self._process.join, _TERMINATION_S)
        if self._process.is_alive():
            self._process.kill()
        await asyncio.to_thread(self._process.join)
        self._pipe.close()
        self._process.close()

    def submit(self, handler: str, claim: Claim | None) -> bool:
        """Hand over what to do. False: the child was killed while it waited."""
        try:
            self._pipe.send((handler, claim))
        except BrokenPipeError:
            return False
        return True

    async def result(self) -> dict[str, Any]:
        """What the handler returned.

        Raises:
            OutageError: something that the handler stands on is away.
            StageError: the handler failed, or the child died; the message says which and why.
        """
        await _readable(self._pipe)
        try:
            outcome = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            await asyncio.to_thread(self._process.join)
            raise StageError(f"the child process died: {_exit_reason(self._process.exitcode)}") from None
        self._done = True
        if isinstance(outcome, StageError):
            raise outcome
        result: dict[str, Any] = outcome
        return result


async def _readable(pipe: Connection) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(pipe.fileno())


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
    return f"exit code {code}"


def _run(pipe: Connection, task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()  # what was inherited stays shared: a collection would write to every page of it
    configure_logs(task.settings.log_format, task.settings.log_level)
    structlog.contextvars.bind_contextvars(stage=task.stage)
    for module in (task.handler, _OUTAGES):
        importlib.import_module(module)
    has_work = threading.Event()
    threading.Thread(target=_end_with_parent, args=(pipe, has_work), daemon=True).start()
    try:
        handler, claim = pipe.recv()
    except EOFError:
        os._exit(0)  # the parent has ended, and there was nothing to do
    has_work.set()
    pipe.send(_outcome(_assigned(task, handler, claim)))
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do: tearing the heavy libraries down would only delay the recording


def _assigned(task: Task, handler: str, claim: Claim | None) -> Task:
    if claim is None:
        return replace(task, handler=handler)
    structlog.contextvars.bind_contextvars(batch_id=claim.batch.id, attempt=claim.attempt)
    return Job(**vars(task) | {"handler": handler}, batch=claim.batch, attempt=claim.attempt)


def _outcome(task: Task) -> dict[str, Any] | StageError:
    handle: Handler = importlib.import_module(task.handler).handle
    try:
        return handle(task)
    except FencedError as error:
        return error
    except Exception as error:
        outage: OutageError | None = importlib.import_module(_OUTAGES).outage_of(error)
        if outage is not None:
            return outage
        if isinstance(error, PipelineError):
            return StageError(censor(str(error)))
        logger.exception("handler failed")
        return StageError(censor(f"{type(error).__name__}: {error}"))


def _end_with_parent(pipe: Connection, has_work: threading.Event) -> None:
    """The parent writes once, so from then on the pipe becomes readable only when it closes: on its death, kill -9 included."""
    has_work.wait()
    try:
        pipe.poll(None)
    finally:
        os._exit(_ORPHANED)
