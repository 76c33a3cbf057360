"""OpenLineage events: what becomes of each attempt at a batch, told to a file and, where there is one, to a server.

Nothing depends on them, and nothing waits for them: what cannot be written or sent is logged once and given up. The client takes
half a second to import, which is a thread's business too, begun as soon as somebody may emit.
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

_UNWRITTEN: Final = "an OpenLineage event could not be written"
_WIRE: Final = "shared.openlineage.wire"  # all that imports the client
_WRITE_TIMEOUT_S: Final = 15.0  # the client's import is part of the first write
_SEND_TIMEOUT_S: Final = 2.0
_QUEUE_LENGTH: Final = 1000


class JobName(StrEnum):
    """The jobs, in the order in which each batch goes through them."""

    LOAD = "load"
    SNAPSHOT = "snapshot"
    TRAINING = "training"


class State(StrEnum):
    """OpenLineage's names for what becomes of an attempt. FAIL counts as a failure; what is ABORTed is just taken up again."""

    START = "START"
    COMPLETE = "COMPLETE"
    FAIL = "FAIL"
    ABORT = "ABORT"


@dataclass(frozen=True)
class Transition:
    """A job's attempt at a batch reaches a state.

    Attributes:
        job: which of the three.
        state: START, or how it ends.
        at: when, with a time zone.
        batch: as PostgreSQL knows it.
        attempt: the stage's attempt number. A load has none: each claims its batch at another moment.
        result: what a stage recorded, at COMPLETE.
        error: why, at FAIL and ABORT.
        server_version: of PostgreSQL, for a load.
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
    """Tells transitions to the file and to the server, from threads of its own: no call waits or raises.

    Use it as a context manager: its end waits a while for the file to have everything, and briefly for the server.
    """

    def __init__(self, settings: Settings) -> None:
        self.enabled = not settings.openlineage_disabled
        self._settings = settings
        self._path = settings.openlineage_path
        self._told: set[str] = set()
        self._is_torn = False
        # daemons: what the file or the server does not take must not keep the process from ending
        self._unwritten: queue.Queue[Transition | None] = queue.Queue(_QUEUE_LENGTH)
        self._writer = threading.Thread(target=self._write_all, name="openlineage file", daemon=True)
        self._unsent: queue.Queue[Any] = queue.Queue(_QUEUE_LENGTH)
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
                self._unwritten.put_nowait(transition)
            except queue.Full as error:
                self._tell_once(_UNWRITTEN, str(self._path), error)

    def close(self) -> None:
        """Wait until the file has what was emitted, but not forever, and for the server no longer than one answer may take."""
        if self.enabled:
            with suppress(queue.Full):
                self._unwritten.put(None, timeout=_WRITE_TIMEOUT_S)
            self._writer.join(_WRITE_TIMEOUT_S)
            if self._writer.is_alive():
                self._tell_once(_UNWRITTEN, str(self._path), TimeoutError("the file takes nothing"))
        if self._sender is not None:
            with suppress(queue.Full):
                self._unsent.put_nowait(None)
            self._sender.join(_SEND_TIMEOUT_S)

    def _write_all(self) -> None:
        with suppress(Exception):  # the first event says what is wrong, if there is one
            importlib.import_module(_WIRE)
        while (transition := self._unwritten.get()) is not None:
            self._write(transition)

    def _write(self, transition: Transition) -> None:
        try:
            wire = importlib.import_module(_WIRE)
            event = wire.run_event(transition, self._settings)
            self._append(wire.as_json(event))
        except Exception as error:  # noqa: BLE001  whatever it is, the work goes on
            self._tell_once(_UNWRITTEN, str(self._path), error)
            return
        if self._sender is not None:
            with suppress(queue.Full):  # the server is away for long, and the file has it
                self._unsent.put_nowait(event)

    def _append(self, line: str) -> None:
        """One write to a file opened for appending: lines of several processes never mix."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # what there is of a line that was cut off stays a line of its own
            content = ("\n" * self._is_torn + f"{line}\n").encode()
            self._is_torn = os.write(file, content) != len(content)
            if self._is_torn:
                raise OSError("the disk is full: the last line is not whole")
        finally:
            os.close(file)

    def _send_all(self) -> None:
        url = censor(str(self._settings.openlineage_url))
        transport = None
        while (event := self._unsent.get()) is not None:
            try:
                transport = transport or importlib.import_module(_WIRE).transport(
                    self._settings, _SEND_TIMEOUT_S
                )
                transport.emit(event)
                self._told.discard(url)
            except Exception as error:  # noqa: BLE001  whatever it is, the next event may get through
                self._tell_once("OpenLineage events do not reach the server; the file has them", url, error)

    def _tell_once(self, trouble: str, where: str, error: Exception) -> None:
        if where not in self._told:
            self._told.add(where)
            reason = censor(str(error)) or type(error).__name__
            logger.warning(trouble, where=where, error=reason)
