"""Start the child processes of a stage one after the other, so that one of them always waits for work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import structlog

from listeners import fork_server
from listeners.child import Child, warm_up
from listeners.claims import Claim
from listeners.job import Task
from shared.errors import OutageError

logger = structlog.get_logger()


class Children:
    """The child processes of one stage. A child waits for work, works on one batch and ends. Then the next child starts."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._next: asyncio.Task[Child] | None = None
        self._last: Child | None = None

    async def __aenter__(self) -> Self:
        self._next = asyncio.create_task(self._start())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})
            if not self._next.cancelled() and self._next.exception() is None:
                await self._next.result().end()

    @asynccontextmanager
    async def assigned_child(self, handler: str, claim: Claim | None = None) -> AsyncIterator[Child]:
        """Tell the waiting child process to run the module `handler` on the batch of `claim`, and yield this child.

        `claim` is None if the work has no batch. At the end of the `async with` block, the child is ended if it still works,
        and the next child is started, which then waits for work.

        Raises:
            OutageError: the machine cannot start a child process, or the child before does not end although it was killed.
        """
        if self._last is not None and not self._last.has_ended:
            raise OutageError(
                f"the child process {self._last.pid} does not end although it was killed: "
                "it is stuck in the operating system",
                remedy="restore what the process waits for, for example a file server, or restart the machine",
            )
        child = await self._take_next()
        if not child.submit(handler, claim):
            await child.end()
            child = await self._start()
            child.submit(handler, claim)
        self._last = child
        try:
            yield child
        finally:
            # Fork the next child only when this child has finished: an earlier fork would take processor time from this child's
            # work.
            self._next = asyncio.create_task(self._start())
            await child.end()

    async def _take_next(self) -> Child:
        try:
            return await (self._next or self._start())
        finally:
            self._next = None

    async def _start(self) -> Child:
        """Start a child process. If the fork server does not start it in time, replace the fork server and try once more."""
        child = Child(self._task)
        try:
            await child.start()
        except fork_server.START_ERRORS as error:
            logger.warning("replacing the fork server", error=str(error) or type(error).__name__)
        else:
            return child
        child = Child(self._task)
        try:
            fork_server.kill()
            fork_server.make_folders()
            await warm_up(self._task.handler)
            await child.start()
        except fork_server.START_ERRORS as error:
            raise OutageError(
                f"no child process can be started: {str(error) or type(error).__name__}",
                remedy="free memory, processes or disk space, and make sure that the folder TMPDIR can be written",
            ) from error
        return child
