"""Run the heavy work of a stage (snapshot or training) in a child process.

While a child works, the listener's event loop stays responsive. When the child ends, the operating system frees the memory that
the child has used.

A fork server imports the heavy libraries once, when the listener starts. Every child is forked from this server. As soon as a
child has finished, the next child is forked and waits for work. So a new batch waits neither for an import nor for a fork.

A child ends itself when its parent, the listener, dies. Otherwise, two children could work on one batch: PostgreSQL frees the
claim of a dead listener, so another listener of the stage may claim the batch.

While a child works, it sends signs of life (listeners/liveness.py). A fork server that is gone or frozen is replaced
(listeners/fork_server.py).
"""

import asyncio
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import structlog

from listeners import fork_server
from listeners.claims import Claim
from listeners.job import Handler, Job, Task
from listeners.liveness import Silence, send_signs_of_life
from shared.errors import FencedError, OutageError, PipelineError, StageError
from shared.logs import censor, configure_logs

logger = structlog.get_logger()

RECONCILE = "listeners.reconcile"
# These modules import MLflow. The listener does not need MLflow and starts faster without it. So this file has no import statement
# for them: the fork server and its children import them by these names.
_OUTAGES = "listeners.outages"
_PRELOAD = "listeners.preload"
# Exit codes (of sysexits.h) with which a child ends itself: its parent has died, or a thread has run out of memory.
_ORPHANED, _OUT_OF_MEMORY = os.EX_SOFTWARE, os.EX_OSERR
# Deadlines in seconds: for the fork server to import the heavy libraries, to fork a child, and to report that a child has ended;
# and for a child to end.
_IMPORT_S = 300.0
_FORK_S = 30.0
_REPORT_S = 10.0
_EXIT_S = 5.0


async def warm_up(handler: str) -> None:
    """Start the fork server, and wait until it has imported the module `handler` and the heavy libraries that it needs.

    If this fails, only log the error: the start of the first child process tries again.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_OUTAGES, RECONCILE, handler, _PRELOAD])
    first = context.Process(target=int, daemon=True)
    try:
        await fork_server.start(first, _IMPORT_S)
        await fork_server.join(first, _EXIT_S)
        first.close()
    except (*fork_server.START_ERRORS, ValueError) as error:  # ValueError: the process has not ended
        logger.warning("the fork server does not start", error=str(error) or type(error).__name__)


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
        self._outcome: asyncio.Future[dict[str, Any] | StageError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._ended = asyncio.Event()
        self._silence = Silence(2 * task.settings.ping_interval_s)
        self.pid: int | None = None
        self.idle_s = 0.0

    async def start(self) -> None:
        """Start the process. Raise one of `fork_server.START_ERRORS` if this fails or takes too long."""
        await fork_server.start(self._process, _FORK_S, self._after_start)
        self.pid = self._process.pid
        threading.Thread(target=self._read, args=(asyncio.get_running_loop(),), daemon=True).start()

    def _after_start(self, is_awaited: bool) -> None:
        self._child_end.close()
        if not is_awaited:
            self._pipe.close()  # if the process was started after all, it ends at once

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def kill(self) -> None:
        """Kill the process. SIGKILL also ends a process that is stopped (SIGSTOP)."""
        if self.pid is not None and not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End the child process, and wait for its end, but only for a few seconds.

        If the child has sent its result, it exits by itself. Otherwise, or if this takes too long, kill the child. If even a
        killed child does not end, it is stuck in the operating system. It will not run any further: `has_ended` says when the
        operating system has ended it.
        """
        if not (self._outcome.done() and await self._ends_within(_EXIT_S)):
            self.kill()
        if await self._ends_within(_EXIT_S):
            self._pipe.close()
        else:
            logger.error("a child process was killed and does not end", pid=self.pid)
        try:
            await fork_server.join(self._process, _REPORT_S if self.has_ended else 0.0)
        finally:  # also if the listener is stopped meanwhile
            if self._process.is_alive():
                # Without the fork server, multiprocessing no longer waits for the process when the listener ends.
                logger.warning(
                    "replacing the fork server: it does not report the end of a process", pid=self.pid
                )
                fork_server.kill()
        await fork_server.join(self._process, _EXIT_S)
        with suppress(ValueError):  # the fork server was killed, but does not end
            self._process.close()

    async def _ends_within(self, deadline_s: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), deadline_s)
        return self.has_ended

    def submit(self, handler: str, claim: Claim | None) -> bool:
        """Tell the child which handler module to run, and on which claimed batch. Return False if the child has died."""
        try:
            self._pipe.send((handler, claim))
        except BrokenPipeError:
            return False
        self._silence.end()
        return True

    def silent_s(self) -> float:
        """Return the seconds since the last sign of life of the child, which works. Call this method regularly."""
        return self._silence.look()

    def since_sign_of_life_s(self) -> float:
        """Return the seconds since the last sign of life, by the clock. Any thread may call this method."""
        return time.monotonic() - self._silence.ended_at

    async def result(self) -> dict[str, Any]:
        """Wait for the result of the handler that the child runs, and return the result.

        Raises:
            OutageError: a service that the handler needs is unavailable.
            StageError: the handler failed, or the child process died. The message says which of the two happened, and why.
        """
        outcome = await asyncio.shield(self._outcome)
        if outcome is None:
            await fork_server.join(self._process, _EXIT_S)
            raise StageError(f"the child process died: {_exit_reason(self._process.exitcode)}")
        if isinstance(outcome, StageError):
            raise outcome
        return outcome

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Receive what the child sends until its end of the pipe is closed. Run in a thread of the listener.

        The operating system closes that end when the child has ended, in whichever way. A thread may wait for the rest of a
        message that a frozen child has begun to send; the event loop must not.
        """
        with suppress(RuntimeError):  # the event loop has ended
            try:
                while True:
                    loop.call_soon_threadsafe(self._receive, self._pipe.recv())
            except (EOFError, OSError):
                loop.call_soon_threadsafe(self._ended.set)
                loop.call_soon_threadsafe(self._receive, None)

    def _receive(self, message: dict[str, Any] | StageError | float | None) -> None:
        """Note a sign of life (a number), the outcome of the work, or the end of the child without an outcome (None)."""
        if isinstance(message, float):
            self._silence.end()
            self.idle_s = message
        elif not self._outcome.done():
            self._outcome.set_result(message)


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
    if code == _OUT_OF_MEMORY:
        return "a thread ran out of memory"
    return f"exit code {'unknown' if code is None else code}"


def _run(pipe: Connection, task: Task) -> None:
    # Ctrl-C reaches this child as well as its parent. Ignore it here, because the parent ends the child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A thread without memory can call no Python function. So only collect what it reports; a thread that runs looks at it.
    unraisable: list[sys.UnraisableHookArgs] = []
    sys.unraisablehook = unraisable.append
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
    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            pipe.send(message)

    def send_sign_of_life(idle_s: float) -> None:
        _report(unraisable)
        send(idle_s)

    threading.Thread(target=send_signs_of_life, args=(send_sign_of_life,), daemon=True).start()
    send(_outcome(_assigned_task(task, handler, claim)))
    _report(unraisable)
    sys.stderr.flush()
    os._exit(0)  # skip the shutdown of the heavy libraries: the parent would have to wait for it


def _report(unraisable: "list[sys.UnraisableHookArgs]") -> None:
    """Print the errors that no code could catch, as Python does. End this child if one of them is a MemoryError.

    Python has such an error if a new thread fails before it runs any code. threading.Thread.start then waits for ever:
    https://github.com/python/cpython/issues/140746.
    """
    for error in unraisable:
        sys.__unraisablehook__(error)
        if issubclass(error.exc_type, MemoryError):
            os._exit(_OUT_OF_MEMORY)
    unraisable.clear()


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
    except (FencedError, OutageError) as error:
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
