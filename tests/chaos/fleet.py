"""Replicas of both listeners, and the model server: each is started again whenever it ends, as a container's restart policy would."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from subprocess import Popen

import breakpoints
import pausable_listener
from listener_processes import Listeners
from server_process import ModelServer

from shared.events import Stage

RESTART_DELAY_S = 0.1  # as Docker waits before the first restart
INTERVAL_S = 0.01
END_S = 60


@dataclass
class Replica:
    """One process after another. `exit_codes` are those of the ones that have ended."""

    scratch: Path
    start: Callable[[], Popen]
    process: Popen
    exit_codes: list[int] = field(default_factory=list)
    ended_at: float | None = None


class Fleet:
    """Use as a context manager; `scale` starts and ends replicas, `serve` the model server."""

    def __init__(
        self, listeners: Listeners, model_server: ModelServer, breakpoint_directory: Path, scratch: Path
    ):
        self._listeners, self._model_server = listeners, model_server
        self._serving: list[Replica] = []  # the model server, if it is wanted
        self._breakpoints, self._scratch = breakpoint_directory, scratch
        self._lock = threading.RLock()
        self._replicas: dict[Stage, list[Replica]] = {stage: [] for stage in Stage}
        self._closed = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.variables: dict[str, str] = {}  # further ones for those that are started from now on
        self.stage_variables: dict[Stage, dict[str, str]] = {}  # and for those of one stage

    def __enter__(self):
        self._supervisor.start()
        return self

    def __exit__(self, *_error):
        self._closed.set()
        self._supervisor.join()
        for stage in Stage:
            self.scale(0, stage)
        self.serve(wanted=False)

    @property
    def server_pid(self) -> int:
        """Of the model server, which is running."""
        return self._serving[0].process.pid

    def replicas(self, stage: Stage) -> list[Replica]:
        return self._replicas[stage]

    def pids(self, stage: Stage) -> list[int]:
        return [replica.process.pid for replica in self._replicas[stage]]

    def scale(self, count: int, *stages: Stage) -> None:
        """Start and end processes until there are `count` of each stage; ended ones are killed."""
        for stage in stages or Stage:
            with self._lock:
                replicas = self._replicas[stage]
                for number in range(len(replicas), count):
                    scratch = self._scratch / f"{stage}-{number}"
                    scratch.mkdir(parents=True, exist_ok=True)
                    start = partial(self._start, stage, scratch)
                    replicas.append(Replica(scratch, start, start()))
                surplus, replicas[count:] = replicas[count:], []
            for replica in surplus:
                _end(replica.process)

    def serve(self, *, wanted: bool) -> None:
        """Start or kill the model server, unless it is as wanted already."""
        with self._lock:
            if wanted and not self._serving:
                start = self._model_server.start
                self._serving.append(Replica(self._scratch, start, start()))
            surplus, self._serving[wanted:] = self._serving[wanted:], []
        for replica in surplus:
            _end(replica.process)

    def replace(self) -> None:
        """End all processes and start as many anew."""
        counts = {stage: len(replicas) for stage, replicas in self._replicas.items()}
        for stage, count in counts.items():
            self.scale(0, stage)
            self.scale(count, stage)
        served = bool(self._serving)
        self.serve(wanted=False)
        self.serve(wanted=served)

    def _start(self, stage: Stage, scratch: Path) -> Popen:
        variables = {breakpoints.DIRECTORY: str(self._breakpoints), "TMPDIR": str(scratch)}
        return self._listeners.run(
            stage,
            [sys.executable, Path(pausable_listener.__file__), stage],
            **variables | self.variables | self.stage_variables.get(stage, {}),
        )

    def _supervise(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            with self._lock:
                for replica in [*chain.from_iterable(self._replicas.values()), *self._serving]:
                    self._look_after(replica)

    def _look_after(self, replica: Replica) -> None:
        now = time.monotonic()
        if replica.ended_at is not None:
            if now - replica.ended_at >= RESTART_DELAY_S:
                replica.process, replica.ended_at = replica.start(), None
        elif (code := replica.process.poll()) is not None:
            replica.exit_codes.append(code)
            replica.ended_at = now


def _end(process: Popen) -> None:
    """A listener may be stopped (SIGSTOP) or stand at a breakpoint: nothing but SIGKILL ends it for sure."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait(END_S)
