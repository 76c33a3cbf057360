"""Process the waiting batches of one stage: claim each batch, run the work in a child process, and record the outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

import psycopg
import structlog

from db.sqlstates import meaning_of
from listeners.child import RECONCILE, Child, Children
from listeners.claims import Claim, StageClaims
from listeners.doorbell import Doorbell
from listeners.job import Task, handler_module
from listeners.listen import WakeSource, WakeUp
from listeners.openlineage_events import StageEvents
from shared.config import Settings
from shared.errors import FencedError, OutageError, StageError
from shared.events import Stage

logger = structlog.get_logger()

_OUTAGE_RETRY_FIRST: Final = timedelta(seconds=0.25)
_PERSON_RETRY_MAX: Final = timedelta(
    minutes=1
)  # longest delay between attempts while a person must correct something


class StageWorker:
    """The worker that processes batches of one stage until `stop` is set. The doorbell wakes it when a batch may be waiting."""

    def __init__(
        self,
        stage: Stage,
        conninfo: str,
        settings: Settings,
        doorbell: Doorbell,
        stop: asyncio.Event,
        *,
        handler: str | None = None,
        reconciler: str | None = RECONCILE,
    ) -> None:
        self._stage = stage
        self._settings = settings
        self._doorbell = doorbell
        self._stop = stop
        self._handler = handler or handler_module(stage)
        self._reconciler = reconciler
        self._claims = StageClaims(stage, conninfo)
        self._events = StageEvents(stage, settings)
        self._children = Children(Task(stage, conninfo, settings, self._handler))
        self.has_claim = False

    async def run(self) -> None:
        """Process batches until `stop` is set.

        Look for batches at each wake-up, when a retry is due, and at least once in each poll interval: a notification can be
        lost, and the connection that receives notifications may be down. While another worker holds a batch, also look at short
        intervals, because that worker may die and leave the batch free.
        """
        poll_in_s = self._settings.poll_interval_s
        retry_in_s: float | None = None
        try:
            async with self._children:
                while not self._stop.is_set():
                    if retry_in_s is None or retry_in_s > poll_in_s:
                        wake = await self._doorbell.wait(poll_in_s, WakeSource.POLL)
                    else:
                        wake = await self._doorbell.wait(retry_in_s, WakeSource.RETRY)
                    if wake is not None and not self._stop.is_set():
                        await self._reconcile()
                        retry_in_s = await self._process_waiting_batches(wake)
        finally:
            await self._claims.close()
            await self._events.close()

    async def _reconcile(self) -> None:
        """Repair the differences between MLflow and PostgreSQL, once. If a service is unavailable, try at the next wake-up."""
        if self._reconciler is None:
            return
        try:
            async with self._children.assigned_child(self._reconciler) as child:
                await self._supervise(child)
            self._reconciler = None
        except OutageError as error:
            logger.warning(
                "the repair of differences between MLflow and PostgreSQL is postponed: a service is unavailable",
                error=str(error),
            )
        except StageError as error:
            # Do not repeat the repair: the error is not an outage, so another try would probably fail, too. The stage can work
            # without the repair.
            self._reconciler = None
            logger.error(  # noqa: TRY400  the child logged the traceback
                "the repair of differences between MLflow and PostgreSQL failed; the listener continues",
                error=str(error),
            )

    async def _process_waiting_batches(self, wake: WakeUp) -> float | None:
        """Process every waiting batch. Return in how many seconds a retry is due, or None to wait for a wake-up.

        If PostgreSQL rejects a statement because of a defect, log the error and try again later: whatever a server answers, the
        listener goes on.
        """
        try:
            while not self._stop.is_set():
                claim = await self._claims.claim_next(wake, self._doorbell)
                self.has_claim = claim is not None
                if claim is None:
                    return await self._claims.next_look_in_s()
                await self._work(claim)
        except psycopg.Error as error:
            logger.exception("PostgreSQL rejected a statement", remedy=meaning_of(error).remedy)
            await self._claims.close()  # this frees the claim, so that another worker can take the batch
            self.has_claim = False
            return self._settings.outage_retry_max_s
        return None

    async def _work(self, claim: Claim) -> None:
        started = time.monotonic()
        log = logger.bind(
            stage=self._stage, batch_id=claim.batch.id, batch=claim.batch.name, attempt=claim.attempt
        )
        try:
            async with self._children.assigned_child(self._handler, claim) as child:
                log.info("claimed", wake=claim.wake)
                self._events.started(claim)
                result = await self._supervise(child, partial(self._claims.hold, claim))
                if result is None:
                    await self._claims.release(claim)
                    log.info("released", duration_s=round(time.monotonic() - started, 3))
                    self._events.aborted(claim, "released at shutdown")
                    return
                # Record the result now, before the `async with` block waits for the child's end, so that the next stage can
                # start at once.
                await self._claims.finish(claim, result)
            self._events.finished(claim, result)
            log.info("finished", wake=claim.wake, duration_s=round(time.monotonic() - started, 3), **result)
        except FencedError as error:
            log.warning("fenced", error=str(error), duration_s=round(time.monotonic() - started, 3))
            self._events.aborted(claim, str(error))
        except OutageError as error:
            self._events.aborted(claim, str(error))
            await self._postpone(claim, error, log)
        except (StageError, psycopg.DataError) as error:
            log = log.bind(duration_s=round(time.monotonic() - started, 3))
            counts = await self._fail(claim, error, log)
            (self._events.failed if counts else self._events.aborted)(claim, str(error))

    async def _supervise(
        self, child: Child, keep_claim: Callable[[], Awaitable[None]] | None = None
    ) -> dict[str, Any] | None:
        """Wait for the child's result. Meanwhile, call `keep_claim` regularly: it checks that the claim still holds.

        Return the child's result, or None if the child did not finish within the grace period of a shutdown.
        """
        work = asyncio.create_task(child.result())
        stop = asyncio.create_task(self._stop.wait())
        try:
            while not work.done():
                await self._wait_for_any(work, stop)
                if stop.done():
                    await asyncio.wait({work}, timeout=self._settings.grace_period_s)
                    return await work if work.done() else None
                if keep_claim is not None and not work.done():
                    await keep_claim()
            return await work
        finally:
            work.cancel()
            stop.cancel()

    async def _wait_for_any(self, work: "asyncio.Task[Any]", stop: "asyncio.Task[Any]") -> None:
        """Wait until `work` or `stop` ends, the ping interval is over, or the connection to PostgreSQL becomes readable.

        This connection holds the lock of the claim. No query runs on the connection meanwhile, so if it becomes readable, it is
        probably lost. PostgreSQL then releases the lock, so the caller must check the claim at once.
        """
        lost = asyncio.Event()
        descriptor = self._claims.fileno()
        loop = asyncio.get_running_loop()
        if descriptor is not None:
            loop.add_reader(descriptor, lost.set)
        connection_loss = asyncio.create_task(lost.wait())
        try:
            await asyncio.wait(
                {work, stop, connection_loss},
                timeout=self._settings.ping_interval_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            connection_loss.cancel()
            if descriptor is not None:
                loop.remove_reader(descriptor)

    async def _postpone(self, claim: Claim, outage: OutageError, log: Any) -> None:
        longest = timedelta(seconds=self._settings.outage_retry_max_s)
        report = log.warning
        if outage.remedy is not None:
            longest, report = max(longest, _PERSON_RETRY_MAX), log.error
        try:
            await self._claims.postpone(claim, str(outage), _OUTAGE_RETRY_FIRST, longest)
            report("batch postponed: its work cannot be done now", error=outage.message, remedy=outage.remedy)
        except FencedError as fenced:
            log.warning("fenced", error=str(fenced))

    async def _fail(self, claim: Claim, error: Exception, log: Any) -> bool:
        """Record that the stage failed on the claimed batch, and return True. If the claim was lost, only return False."""
        failures = claim.failures + 1
        backoff = None
        if failures < self._settings.max_attempts:
            delay_s = min(self._settings.retry_base_s * 2 ** (failures - 1), self._settings.retry_max_s)
            backoff = timedelta(seconds=delay_s)
        try:
            await self._claims.fail(claim, str(error), backoff)
        except FencedError as fenced:
            log.warning("fenced", error=str(fenced))
            return False
        if backoff is None:
            log.error(
                "given up",
                error=str(error),
                failures=failures,
                remedy=f"rakuten retry --batch {claim.batch.name}",
            )
        else:
            log.warning("failed", error=str(error), failures=failures, retry_in_s=backoff.total_seconds())
        return True
