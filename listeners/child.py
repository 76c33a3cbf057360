"""The heavy work, in a process of its own: the event loop keeps beating, and memory is given back when the work is done.

Children are forked from a server that has imported the heavy libraries once, at the listener's start, so a wake-up pays no
import. A child that loses its parent ends itself: its claim is free by then, and another worker may have taken it.
"""

import asyncio
import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import TracebackType
from typing import Any, Self

import psycopg
import structlog
from psycopg.rows import TupleRow
from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

from db.connect import connect
from db.sql import query
from shared.config import Settings
from shared.errors import DatabaseUnavailableError, FencedError, PipelineError, StageError
from shared.events import Stage
from shared.logs import censor, configure_logs
from shared.mlflow_names import TAG_BATCH_COMPLETED_AT, TAG_BATCH_ID, TAG_SOURCE_SHA256

logger = structlog.get_logger()

_ORPHANED = 70  # exit code (EX_SOFTWARE) of a child whose parent is gone
_TERMINATION_S = 5.0
_RECONNECT_FIRST_S = 0.1
_RECONNECT_MAX_S = 5.0


@dataclass(frozen=True)
class Job:
    """One batch for one stage: all that a child needs to know. `handler` names the module whose `handle` does the work."""

    stage: Stage
    batch_id: int
    week: int
    attempt: int
    conninfo: str
    settings: Settings
    handler: str

    def identity(self) -> "BatchIdentity":
        """What the batch is known by in MLflow."""
        with self._connected("identity") as connection:
            row = connection.execute(query("batch_identity"), {"batch_id": self.batch_id}).fetchone()
        if row is None:
            raise StageError(f"batch {self.batch_id} does not exist")
        return BatchIdentity(self.batch_id, completed_at=row[0], source=row[1])

    def require_claim(self) -> None:
        """Ask PostgreSQL whether this attempt still holds its claim; to be asked before anything is published.

        Raises:
            FencedError: another worker has claimed the batch since, or it was finished.
        """
        with self._connected("fence") as connection:
            row = connection.execute(
                "select holds_stage(%s, %s, %s)", [self.batch_id, self.stage, self.attempt]
            ).fetchone()
        if row is None or not row[0]:
            raise FencedError(
                f"attempt {self.attempt} of {self.stage} on batch {self.batch_id} lost its claim"
            )

    @contextmanager
    def _connected(self, purpose: str) -> Iterator[psycopg.Connection[TupleRow]]:
        """A connection, waited for if need be: the work of minutes is not thrown away for a restart of PostgreSQL."""
        with ExitStack() as stack:
            retrying = Retrying(
                retry=retry_if_exception_type(DatabaseUnavailableError),
                wait=wait_random_exponential(multiplier=_RECONNECT_FIRST_S, max=_RECONNECT_MAX_S),
            )
            yield retrying(
                lambda: stack.enter_context(connect(self.conninfo, f"rakuten {self.stage} {purpose}"))
            )


@dataclass(frozen=True)
class BatchIdentity:
    """A batch as MLflow knows it: its id, the moment of its completion, and the source it was loaded from.

    The id alone would not do: ids begin at 1 again in a database that was made anew beside an MLflow that was kept.
    """

    batch_id: int
    completed_at: str
    source: dict[str, Any]

    @property
    def batch_tags(self) -> dict[str, str]:
        """The tags that only this batch's runs carry."""
        return {TAG_BATCH_ID: str(self.batch_id), TAG_BATCH_COMPLETED_AT: self.completed_at}

    @property
    def source_tags(self) -> dict[str, str]:
        """The tag of what depends on the source alone: the fixed sets."""
        canonical = json.dumps(self.source, sort_keys=True).encode()
        return {TAG_SOURCE_SHA256: hashlib.sha256(canonical).hexdigest()}


# A handler does a stage's work for one batch and returns what is recorded: JSON, with at least `run_id`.
Handler = Callable[[Job], dict[str, Any]]


def handler_module(stage: Stage) -> str:
    return f"listeners.{stage}.handle"


# What MLflow and its like import on first use, that is, in the child and on the wake-up's path. Missing ones are skipped.
_IMPORTED_LATE = (
    "git",
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    "mlflow.store.artifact.local_artifact_repo",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.dataset",
    "skops.io",
    "sqlalchemy.dialects.sqlite",
)


async def warm_up(stage: Stage) -> None:
    """Start the fork server and wait until it has imported the stage's handler, and with it the heavy libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["listeners.cli", handler_module(stage), *_IMPORTED_LATE])
    first = context.Process(target=int, daemon=True)
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(first.join)
    first.close()


class Child:
    """A handler at work. Use as an async context manager: a child that still runs at the end is terminated."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, self._child_end = context.Pipe()
        self._process: ForkServerProcess = context.Process(
            target=_run, args=(job, self._child_end), name=f"{job.stage}-{job.batch_id}", daemon=True
        )
        self._done = False

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._process.start)
        self._child_end.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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

    async def result(self) -> dict[str, Any]:
        """What the handler returned.

        Raises:
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


def _run(job: Job, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    configure_logs(job.settings.log_format, job.settings.log_level)
    structlog.contextvars.bind_contextvars(stage=job.stage, batch_id=job.batch_id, attempt=job.attempt)
    handle: Handler = importlib.import_module(job.handler).handle
    try:
        outcome: dict[str, Any] | StageError = handle(job)
    except FencedError as error:
        outcome = error
    except PipelineError as error:
        outcome = StageError(censor(str(error)))
    except Exception as error:
        logger.exception("handler failed")
        outcome = StageError(censor(f"{type(error).__name__}: {error}"))
    pipe.send(outcome)
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do: tearing the heavy libraries down would only delay the recording


def _end_with_parent(pipe: Connection) -> None:
    """The parent never writes, so the pipe becomes readable only when it closes: on the parent's death, kill -9 included."""
    try:
        pipe.poll(None)
    finally:
        os._exit(_ORPHANED)
