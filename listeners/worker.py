"""Process the waiting batches of one stage: claim each batch, run the work in a child process, and record the outcome."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

import psycopg
import structlog

from db.sqlstates import meaning_of
from listeners.child import RECONCILE, Child
from listeners.children import Children
from listeners.claims import Claim, StageClaims
from listeners.doorbell import Doorbell
from listeners.job import Task, handler_module
from listeners.listen import WakeSource, WakeUp
from listeners.liveness import Silence
from listeners.openlineage_events import StageEvents
from shared.config import Settings
from shared.errors import FencedError, OutageError, StageError, StalledError
from shared.events import Stage

logger = structlog.get_logger()

_OUTAGE_RETRY_FIRST: Final = timedelta(seconds=0.25)
# Longest delay between attempts while a person must correct something.
_PERSON_RETRY_MAX: Final = timedelta(minutes=1)
# After a third of STALL_TIMEOUT_S without a sign of life, the worker no longer renews its claim, and its health check fails.
_DOUBT_SHARE: Final = 1 / 3
# A child may wait this many times STALL_TIMEOUT_S, for example for a long query of PostgreSQL. After the first time, the worker
# no longer renews its claim, so `rakuten doctor` reports the batch.
_WAITING_FACTOR: Final = 10


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
        self.fenced = 0  # how often it has lost its claim on a batch
        self._child: Child | None = None
        self._is_waiting = False
        self._silence = Silence(2 * (settings.ping_interval_s + settings.ping_deadline_s))
        self._stalls: Counter[int] = Counter()

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
                    self._is_waiting = True
                    if retry_in_s is None or retry_in_s > poll_in_s:
                        wake = await self._doorbell.wait(poll_in_s, WakeSource.POLL)
                    else:
                        wake = await self._doorbell.wait(retry_in_s, WakeSource.RETRY)
                    self._is_waiting = False
                    self._silence.end()
                    if wake is not None and not self._stop.is_set():
                        await self._reconcile()
                        retry_in_s = await self._process_waiting_batches(wake)
        finally:
            await self._claims.close()
            await self._events.close()

    def is_responsive(self) -> bool:
        """Tell whether the worker waits for a batch or has made progress lately. The listener calls this at every ping."""
        return self._silence.look() < _DOUBT_SHARE * self._settings.stall_timeout_s or self._is_waiting

    def child_silent_s(self) -> float:
        """Return the seconds since the last sign of life of the child that works, or 0 if none works. Any thread may call this."""
        child = self._child
        return 0.0 if child is None else child.since_sign_of_life_s()

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

        If PostgreSQL rejects a statement because of a defect, log the error and try again later. No answer of a server ends the
        listener.
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
            self._stalls.pop(claim.batch.id, None)
            self._events.finished(claim, result)
            # PostgreSQL has the whole result. Its lists and dictionaries, such as the scores of all classes, are too long for the log.
            values = {name: value for name, value in result.items() if not isinstance(value, dict | list)}
            log.info("finished", wake=claim.wake, duration_s=round(time.monotonic() - started, 3), **values)
        except FencedError as error:
            self.fenced += 1
            log.warning("fenced", error=str(error), duration_s=round(time.monotonic() - started, 3))
            self._events.aborted(claim, str(error))
        except (StageError, psycopg.DataError) as error:
            if isinstance(error, OutageError) and not self._stalls_too_often(claim, error):
                self._events.aborted(claim, str(error))
                await self._postpone(claim, error, log)
                return
            log = log.bind(duration_s=round(time.monotonic() - started, 3))
            counts = await self._fail(claim, error, log)
            (self._events.failed if counts else self._events.aborted)(claim, str(error))

    def _stalls_too_often(self, claim: Claim, error: OutageError) -> bool:
        """Tell whether the child has stalled on this batch more than MAX_ATTEMPTS times in a row.

        Then the batch is probably at fault, not the machine, so the stall counts as a failure of the batch.
        """
        if isinstance(error, StalledError):
            self._stalls[claim.batch.id] += 1
        return self._stalls[claim.batch.id] > self._settings.max_attempts and isinstance(error, StalledError)

    async def _supervise(
        self, child: Child, keep_claim: Callable[[], Awaitable[None]] | None = None
    ) -> dict[str, Any] | None:
        """Wait for the child's result. Meanwhile, call `keep_claim` regularly: it checks that the claim still holds.

        While the child makes no progress, do not call `keep_claim`, unless the connection that holds the claim is lost. So
        PostgreSQL shows by the last renewal of the claim whether the work goes on.

        Return the child's result, or None if the child did not finish within the grace period of a shutdown.

        Raises:
            StalledError: the child made no progress for too long, and was killed.
        """
        self._child = child
        work = asyncio.create_task(child.result())
        stop = asyncio.create_task(self._stop.wait())
        try:
            while not work.done():
                is_lost = await self._wait_for_any(work, stop)
                if stop.done():
                    await asyncio.wait({work}, timeout=self._settings.grace_period_s)
                    return await work if work.done() else None
                if work.done():
                    break
                if (self._is_progressing(child) or is_lost) and keep_claim is not None:
                    await keep_claim()
            return await work
        finally:
            self._child = None
            work.cancel()
            stop.cancel()

    def _is_progressing(self, child: Child) -> bool:
        """Return False if the child has been silent lately, or has only waited. Kill the child if this lasts too long.

        Raises:
            StalledError: the child was killed.
        """
        silent_s, limit_s = child.silent_s(), self._settings.stall_timeout_s
        if silent_s > limit_s:
            problem = f"gave no sign of life for {silent_s:.0f} s: the process or the machine was frozen"
        elif child.idle_s > _WAITING_FACTOR * limit_s:
            problem = f"only waited for {child.idle_s:.0f} s: PostgreSQL, MLflow or a file did not answer"
        else:
            if is_alive := silent_s < _DOUBT_SHARE * limit_s:
                self._silence.end()
            return is_alive and child.idle_s < limit_s
        child.kill()
        raise StalledError(
            f"the child process {child.pid} {problem}; it was killed, and the batch is tried again",
            remedy="if this happens again, look at the load of the machine; STALL_TIMEOUT_S is the limit in seconds",
        )

    async def _wait_for_any(self, work: "asyncio.Task[Any]", stop: "asyncio.Task[Any]") -> bool:
        """Wait until `work` or `stop` ends, the ping interval is over, or the connection to PostgreSQL becomes readable.

        This connection holds the lock of the claim. No query runs on the connection meanwhile, so if it becomes readable, it is
        probably lost. PostgreSQL then releases the lock, so the caller must check the claim at once. Return True in this case.
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
        return lost.is_set()

    async def _postpone(self, claim: Claim, outage: OutageError, log: Any) -> None:
        longest = timedelta(seconds=self._settings.outage_retry_max_s)
        report = log.warning
        if outage.remedy is not None:
            longest, report = max(longest, _PERSON_RETRY_MAX), log.error
        try:
            await self._claims.postpone(claim, str(outage), _OUTAGE_RETRY_FIRST, longest)
            report("batch postponed: its work cannot be done now", error=outage.message, remedy=outage.remedy)
        except FencedError as fenced:
            self.fenced += 1
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
            self.fenced += 1
            log.warning("fenced", error=str(fenced))
            return False
        if backoff is None:
            remedy = f"rakuten retry --batch {claim.batch.name}"
            log.error("given up", error=str(error), failures=failures, remedy=remedy)
        else:
            log.warning("failed", error=str(error), failures=failures, retry_in_s=backoff.total_seconds())
        return True
