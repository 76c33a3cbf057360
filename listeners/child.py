"""Run the heavy work of a stage (snapshot or training) in a child process.

While a child works, the listener's event loop stays responsive. When the child ends, the operating system frees the memory that
the child has used.

A fork server imports the heavy libraries once, when the listener starts. Every child is forked from this server. As soon as a
child has finished, the next child is forked and waits for work. So a new batch waits neither for an import nor for a fork.

A child ends itself when its parent, the listener, dies. Otherwise, two children could work on one batch: PostgreSQL frees the
claim of a dead listener, so another listener of the stage may claim the batch.
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
# The module listeners.outages imports MLflow. The listener does not need MLflow and starts faster without it. So this file has
# no import statement for listeners.outages: the fork server and its children import the module by this name.
_OUTAGES = "listeners.outages"
# Matplotlib and MLflow import these modules only when they first need them. The fork server imports them when it starts, so
# that no child has to.
_LAZY_MODULES = ("matplotlib.backends.backend_agg", "mlflow.pyfunc", "skops.io")
_ORPHANED = 70  # exit code (EX_SOFTWARE) with which a child ends itself when its parent has died
_TERMINATION_S = 5.0


async def warm_up(handler: str) -> None:
    """Start the fork server, and wait until it has imported the module `handler` and the heavy libraries that it needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_OUTAGES, RECONCILE, handler, *_LAZY_MODULES])
    first = context.Process(target=int, daemon=True)
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(first.join)
    first.close()


class Children:
    """The child processes of one stage. A child waits for work, works on one batch and ends. Then the next child starts."""

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
    async def assigned_child(self, handler: str, claim: Claim | None = None) -> AsyncIterator["Child"]:
        """Tell the waiting child process to run the module `handler` on the batch of `claim`, and yield this child.

        `claim` is None if the work has no batch. At the end of the `async with` block, the child is terminated if it still
        works, and the next child is started, which then waits for work.
        """
        if self._next is None:
            raise RuntimeError("no child process was started: use Children in an `async with` block")
        child = await self._next
        if not child.submit(handler, claim):
            await child.end()
            child = await self._start()
            child.submit(handler, claim)
        try:
            yield child
        finally:
            # Fork the next child only when this child has finished: an earlier fork would take processor time from this child's
            # work.
            self._next = asyncio.create_task(self._start())
            await child.end()

    async def _start(self) -> "Child":
        child = Child(self._task)
        await child.start()
        return child


class Child:
    """A child process that runs one handler module, usually on one batch, and then ends.

    The process is started, with its libraries already imported, before there is work for it. So the work on a new batch can
    begin at once.
    """

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, self._child_end = context.Pipe()
        self._process: ForkServerProcess = context.Process(
            target=_run, args=(self._child_end, task), name=f"{task.stage} child", daemon=True
        )
        self._has_answered = False

    async def start(self) -> None:
        await asyncio.to_thread(self._process.start)
        self._child_end.close()

    async def end(self) -> None:
        """End the child process.

        If the child has sent its result, wait a few seconds until it exits by itself. If the child still runs, terminate it. If
        the termination takes more than a few seconds, kill the child.
        """
        if self._has_answered:
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
        """Tell the child which handler module to run, and on which claimed batch. Return False if the child has died."""
        try:
            self._pipe.send((handler, claim))
        except BrokenPipeError:
            return False
        return True

    async def result(self) -> dict[str, Any]:
        """Wait for the result of the handler that the child runs, and return the result.

        Raises:
            OutageError: a service that the handler needs is unavailable.
            StageError: the handler failed, or the child process died. The message says which of the two happened, and why.
        """
        await _wait_until_readable(self._pipe)
        try:
            outcome = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            await asyncio.to_thread(self._process.join)
            raise StageError(f"the child process died: {_exit_reason(self._process.exitcode)}") from None
        self._has_answered = True
        if isinstance(outcome, StageError):
            raise outcome
        result: dict[str, Any] = outcome
        return result


async def _wait_until_readable(pipe: Connection) -> None:
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
    # Ctrl-C reaches this child as well as its parent. Ignore it here, because the parent ends the child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Exclude all present objects from garbage collection. Their memory is shared with the fork server, and a collection would
    # write to this memory. Each write would copy a page of the memory.
    gc.freeze()
    configure_logs(task.settings.log_format, task.settings.log_level)
    structlog.contextvars.bind_contextvars(stage=task.stage)
    for module in (task.handler, _OUTAGES):
        importlib.import_module(module)
    has_work = threading.Event()
    threading.Thread(target=_end_with_parent, args=(pipe, has_work), daemon=True).start()
    try:
        handler, claim = pipe.recv()
    except EOFError:
        os._exit(0)  # the parent closed the pipe before it sent any work
    has_work.set()
    pipe.send(_outcome(_assigned_task(task, handler, claim)))
    sys.stderr.flush()
    os._exit(0)  # skip the shutdown of the heavy libraries: the parent would have to wait for it


def _assigned_task(task: Task, handler: str, claim: Claim | None) -> Task:
    if claim is None:
        return replace(task, handler=handler)
    structlog.contextvars.bind_contextvars(batch_id=claim.batch.id, attempt=claim.attempt)
    return Job(**vars(task) | {"handler": handler}, batch=claim.batch, attempt=claim.attempt)


def _outcome(task: Task) -> dict[str, Any] | StageError:
    """Run the handler of a task and return its result. If the handler fails, return the error; the parent then raises it."""
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
    """Wait until the parent process dies (even by kill -9), then end this child process. Run in a thread of the child.

    The parent writes to the pipe only once, to send the work (`has_work` is then set). After that, the pipe becomes readable
    only when the parent's end of the pipe is closed. The operating system closes that end when the parent dies.
    """
    has_work.wait()
    try:
        pipe.poll(None)
    finally:
        os._exit(_ORPHANED)
