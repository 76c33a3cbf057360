"""Write OpenLineage events about each attempt at a batch to a file, and send them to a server if one is configured.

Nothing depends on the events, and nothing waits for them. An event that cannot be written or sent is dropped, and the problem
is logged once. The import of OpenLineage's client takes half a second, so a thread imports it as soon as an Emitter exists.
"""

import importlib
import os
import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

import structlog

from shared.batch import Batch
from shared.config import Settings
from shared.logs import censor

logger = structlog.get_logger()

_WRITE_FAILED: Final = "an OpenLineage event could not be written"
_WIRE: Final = "shared.openlineage.wire"  # the module that imports OpenLineage's client
_WRITE_TIMEOUT_S: Final = 15.0  # long, because the first write waits for the import of OpenLineage's client
_SEND_TIMEOUT_S: Final = 2.0
_QUEUE_LENGTH: Final = 1000


class JobName(StrEnum):
    """The names of the pipeline's three jobs, in the order in which each batch passes through the jobs."""

    LOAD = "load"
    SNAPSHOT = "snapshot"
    TRAINING = "training"


class State(StrEnum):
    """OpenLineage's states of an attempt at a batch. FAIL: the attempt failed. ABORT: it was interrupted; a new one follows."""

    START = "START"
    COMPLETE = "COMPLETE"
    FAIL = "FAIL"
    ABORT = "ABORT"


@dataclass(frozen=True)
class Transition:
    """A new state of a job that processes a batch.

    Attributes:
        job: load, snapshot or training.
        state: START, or the state in which the attempt ends.
        at: the time of the transition, with a time zone.
        batch: the batch, as PostgreSQL records it.
        attempt: the attempt number of a stage. For a load, this is always 1: the attempts at a load are told apart by
            `batch.started_at`.
        result: what a stage recorded, if the state is COMPLETE.
        error: the reason, if the state is FAIL or ABORT.
        server_version: the version of PostgreSQL, if the job is a load.
    """

    job: JobName
    state: State
    at: datetime
    batch: Batch
    attempt: int = 1
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    server_version: str = ""


class Emitter:
    """A writer of OpenLineage events to a file and, if configured, to a server. Its threads write, so `emit` never waits.

    Use an Emitter as a context manager. The end of the `with` block waits up to half a minute until the file has every event,
    and then up to two seconds until the server has them.
    """

    def __init__(self, settings: Settings) -> None:
        self.enabled = not settings.openlineage_disabled
        self._settings = settings
        self._path = settings.openlineage_path
        self._reported: set[str] = set()
        self._is_cut_off = False
        # Both threads are daemon threads, because a file or server that accepts no data must not keep the process from ending.
        self._to_write: queue.Queue[Transition | None] = queue.Queue(_QUEUE_LENGTH)
        self._writer = threading.Thread(target=self._write_all, name="openlineage file", daemon=True)
        self._to_send: queue.Queue[Any] = queue.Queue(_QUEUE_LENGTH)
        self._sender: threading.Thread | None = None
        if self.enabled:
            self._writer.start()
            if settings.openlineage_url is not None:
                self._sender = threading.Thread(target=self._send_all, name="openlineage server", daemon=True)
                self._sender.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def emit(self, transition: Transition) -> None:
        if self.enabled:
            try:
                self._to_write.put_nowait(transition)
            except queue.Full as error:
                self._warn_once(_WRITE_FAILED, str(self._path), error)

    def close(self) -> None:
        """Wait up to 30 s until all events are in the event file, then up to 2 s until the OpenLineage server has them."""
        if self.enabled:
            with suppress(queue.Full):
                self._to_write.put(None, timeout=_WRITE_TIMEOUT_S)
            self._writer.join(_WRITE_TIMEOUT_S)
            if self._writer.is_alive():
                self._warn_once(
                    _WRITE_FAILED,
                    str(self._path),
                    TimeoutError(f"not all events were written within {_WRITE_TIMEOUT_S:g} s"),
                )
        if self._sender is not None:
            with suppress(queue.Full):
                self._to_send.put_nowait(None)
            self._sender.join(_SEND_TIMEOUT_S)

    def _write_all(self) -> None:
        with suppress(Exception):  # ignore an error: the first write imports again and reports the error
            importlib.import_module(_WIRE)
        while (transition := self._to_write.get()) is not None:
            self._write(transition)

    def _write(self, transition: Transition) -> None:
        try:
            wire = importlib.import_module(_WIRE)
            event = wire.run_event(transition, self._settings)
            self._append(wire.as_json(event))
        except Exception as error:  # noqa: BLE001  the work goes on after any error
            self._warn_once(_WRITE_FAILED, str(self._path), error)
            return
        if self._sender is not None:
            with suppress(queue.Full):  # if the queue is full, do not send this event: the file has it
                self._to_send.put_nowait(event)

    def _append(self, line: str) -> None:
        """Append a line to the file with one write, so that lines of several processes never mix."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # If a full disk cut off the last line, begin a new line, so that only the cut-off line is lost.
            content = ("\n" * self._is_cut_off + f"{line}\n").encode()
            self._is_cut_off = os.write(file, content) != len(content)
            if self._is_cut_off:
                raise OSError("the disk is full: the last line of the OpenLineage file is incomplete")
        finally:
            os.close(file)

    def _send_all(self) -> None:
        url = censor(str(self._settings.openlineage_url))
        transport = None
        while (event := self._to_send.get()) is not None:
            try:
                transport = transport or importlib.import_module(_WIRE).transport(
                    self._settings, _SEND_TIMEOUT_S
                )
                transport.emit(event)
                self._reported.discard(url)
            except Exception as error:  # noqa: BLE001  after any error, the next event may succeed
                self._warn_once("OpenLineage events do not reach the server; the file has them", url, error)

    def _warn_once(self, problem: str, where: str, error: Exception) -> None:
        if where not in self._reported:
            self._reported.add(where)
            reason = censor(str(error)) or type(error).__name__
            logger.warning(problem, where=where, error=reason)
