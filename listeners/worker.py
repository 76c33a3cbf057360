"""A stage's worker: find the batches that wait, claim one, have it worked on, record the outcome, until none waits.

Who works on what is decided by PostgreSQL (db/sql/schema/040_stages.sql): a session advisory lock that dies with its
holder, and an attempt number that fences off whoever comes back too late. Any number of replicas may run.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from psycopg.types.json import Jsonb
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from db.connect import conninfo_for
from listeners.child import RECONCILE, Child, Children
from listeners.doorbell import Doorbell
from listeners.job import Batch, Task, handler_module
from listeners.listen import WakeUp
from listeners.openlineage_events import Attempt, StageEvents
from shared.config import Settings
from shared.errors import FencedError, OutageError, StageError
from shared.events import Stage
from shared.openlineage.emitter import BatchRecord

logger = structlog.get_logger()

# While another worker holds a batch: how soon its death is noticed.
_BUSY_INTERVAL_S: Final = 0.25
_OUTAGE_RETRY_FIRST_S: Final = 0.25
_RECONNECT_FIRST_S: Final = 0.1
_RECONNECT_MAX_S: Final = 5.0
# No statement of the queue waits for anything but a row lock that is held for milliseconds.
_STATEMENT_DEADLINE_S: Final = 15.0


class _Claim(NamedTuple):
    batch: BatchRecord
    attempt: int
    failures: int
    wake: str


def _is_worth_repeating(error: BaseException) -> bool:
    """A connection that broke or cannot be made, not a statement that PostgreSQL refused for good."""
    return isinstance(error, psycopg.OperationalError) and not isinstance(
        error, psycopg.errors.ObjectNotInPrerequisiteState
    )


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("work connection lost", error=str(error).strip(), attempt=state.attempt_number)


class StageWorker:
    """Works for one stage until `stop` is set; the doorbell says when to look."""

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
        self._conninfo = conninfo
        self._settings = settings
        self._doorbell = doorbell
        self._stop = stop
        self._handler = handler or handler_module(stage)
        self._reconciler = reconciler
        self._events = StageEvents(stage, settings)
        self._children = Children(Task(stage, conninfo, settings, self._handler))
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._session: psycopg.AsyncConnection[Any] | None = None

    async def run(self) -> None:
        """Look whenever the doorbell rings, a backed-off batch is due, or a batch of another worker may have become free."""
        look_again_in_s: float | None = None
        try:
            async with self._children:
                while not self._stop.is_set():
                    wake = await self._doorbell.wait(look_again_in_s)
                    if wake is not None and not self._stop.is_set():
                        await self._reconcile()
                        look_again_in_s = await self._work_until_none_waits(wake)
        finally:
            if self._session is not None:
                await self._session.close()
            await self._events.close()

    async def _reconcile(self) -> None:
        """Mend what MLflow and PostgreSQL disagree on, once: before the first work, or later if MLflow is away."""
        if self._reconciler is None:
            return
        try:
            async with self._children.at_work(self._reconciler) as child:
                await self._supervise(child)
            self._reconciler = None
        except OutageError as error:
            logger.warning("not reconciled with MLflow yet", error=str(error))
        except StageError as error:
            # a defect: the next time would go no better, and the work can do without
            self._reconciler = None
            logger.error("not reconciled with MLflow", error=str(error))  # noqa: TRY400  the child logged the traceback

    async def _work_until_none_waits(self, wake: WakeUp) -> float | None:
        """Work through all that waits; returns in how many seconds to look again, None for not before the next ring."""
        while not self._stop.is_set():
            claim = await self._claim(wake)
            if claim is None:
                return await self._next_look_in_s()
            await self._work(claim)
        return None

    async def _work(self, claim: _Claim) -> None:
        started = time.monotonic()
        log = logger.bind(
            stage=self._stage, batch_id=claim.batch.id, batch=claim.batch.name, attempt=claim.attempt
        )
        batch = Batch(claim.batch.id, claim.batch.name, claim.attempt)
        attempt = Attempt(claim.batch, claim.attempt)
        try:
            async with self._children.at_work(self._handler, batch) as child:
                log.info("claimed", wake=claim.wake)
                self._events.started(attempt)
                result = await self._supervise(child, partial(self._hold, claim))
                if result is None:
                    await self._record("select release_stage(%s, %s, %s)", claim)
                    log.info("handed back", duration_s=round(time.monotonic() - started, 3))
                    self._events.put_back(attempt, "handed back at a stop")
                    return
                # at once: the next stage need not wait until this child is gone
                await self._record("select finish_stage(%s, %s, %s, %s)", claim, Jsonb(result))
            self._events.finished(attempt, result)
            log.info("finished", wake=claim.wake, duration_s=round(time.monotonic() - started, 3), **result)
        except FencedError as error:
            log.warning("fenced", error=str(error), duration_s=round(time.monotonic() - started, 3))
            self._events.put_back(attempt, str(error))
        except OutageError as error:
            self._events.put_back(attempt, str(error))
            await self._postpone(claim, error, log)
        except StageError as error:
            log = log.bind(duration_s=round(time.monotonic() - started, 3))
            counts = await self._fail(claim, error, log)
            (self._events.failed if counts else self._events.put_back)(attempt, str(error))

    async def _supervise(
        self, child: Child, keep_claim: Callable[[], Awaitable[None]] | None = None
    ) -> dict[str, Any] | None:
        """The child's result, or None when it had to be given up to a stop. Keeps the claim alive meanwhile."""
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
        """Until the work is done, a stop is asked for, the claim is due to be proven, or the work connection says something.

        An idle connection has but one thing to say as a rule: that it is lost, and the claim's lock with it.
        """
        lost = asyncio.Event()
        descriptor = None if self._session is None or self._session.closed else self._session.fileno()
        loop = asyncio.get_running_loop()
        if descriptor is not None:
            loop.add_reader(descriptor, lost.set)
        losing = asyncio.create_task(lost.wait())
        try:
            await asyncio.wait(
                {work, stop, losing},
                timeout=self._settings.ping_interval_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            losing.cancel()
            if descriptor is not None:
                loop.remove_reader(descriptor)

    async def _hold(self, claim: _Claim) -> None:
        """Prove that the claim stands; take the lock again if the connection that held it was lost."""
        held = await self._retrying_query(
            "select hold_stage(%s, %s, %s)", claim.batch.id, self._stage, claim.attempt
        )
        if not held[0][0]:
            raise FencedError(f"another worker has claimed batch {claim.batch.id}")

    async def _postpone(self, claim: _Claim, outage: OutageError, log: Any) -> None:
        first, longest = (
            timedelta(seconds=seconds)
            for seconds in (_OUTAGE_RETRY_FIRST_S, self._settings.outage_retry_max_s)
        )
        try:
            await self._record(
                "select postpone_stage(%s, %s, %s, %s, %s, %s)", claim, str(outage), first, longest
            )
            log.warning("waiting out an outage", error=str(outage))
        except FencedError as fenced:
            log.warning("fenced", error=str(fenced))

    async def _fail(self, claim: _Claim, error: StageError, log: Any) -> bool:
        """Record a failure; False where the claim was lost by then, so that it does not count."""
        failures = claim.failures + 1
        backoff = None
        if failures < self._settings.max_attempts:
            delay_s = min(self._settings.retry_base_s * 2 ** (failures - 1), self._settings.retry_max_s)
            backoff = timedelta(seconds=delay_s)
        try:
            await self._record("select fail_stage(%s, %s, %s, %s, %s)", claim, str(error), backoff)
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

    async def _claim(self, wake: WakeUp) -> _Claim | None:
        """The oldest batch that is ready and free, claimed; None when there is none."""
        rows = await self._retrying_query(
            # by name: what a later schema adds changes nothing, and an earlier one refuses before anything is claimed
            "select batch_id, batch_name, attempt, failures, wake_source, started_at, completed_at, total_rows, metadata"
            " from claim_next(%s, %s, %s, %s, %s)",
            self._stage,
            self._worker,
            wake.source,
            timedelta(seconds=max(0.0, time.monotonic() - wake.at)),
            Jsonb(self._doorbell.notified()),
        )
        if not rows:
            return None
        [(batch_id, name, attempt, failures, wake_source, started_at, completed_at, total_rows, metadata)] = (
            rows
        )
        self._doorbell.forget(batch_id)
        batch = BatchRecord(batch_id, name, started_at, completed_at, "completed", total_rows, metadata)
        return _Claim(batch, attempt, failures, wake_source)

    async def _next_look_in_s(self) -> float | None:
        """When a batch that backs off is due, or soon, when another worker has one; None when nothing waits at all."""
        rows = await self._retrying_query(
            "select extract(epoch from min(ready_at) - clock_timestamp())::float8,"
            " coalesce(bool_or(ready_at <= clock_timestamp()), false)"
            " from pending_batches(%s)",
            self._stage,
        )
        [(due_in_s, another_has_one)] = rows
        return _BUSY_INTERVAL_S if another_has_one else due_in_s

    async def _record(self, statement: str, claim: _Claim, *values: object) -> None:
        try:
            await self._retrying_query(statement, claim.batch.id, self._stage, claim.attempt, *values)
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise FencedError(str(error).splitlines()[0]) from error

    async def _retrying_query(self, statement: str, *parameters: object) -> list[Any]:
        """Run a statement that is safe to repeat, through however many lost connections.

        Recording is: if the first run was committed and only its answer lost, the state it left fences the repetition.
        """
        try:  # without the machinery of below, which costs a claim a tenth of its time
            return await self._query(statement, *parameters)
        except psycopg.OperationalError as error:
            if not _is_worth_repeating(error):
                raise
            logger.warning("work connection lost", error=str(error).strip())
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_is_worth_repeating),
            wait=wait_random_exponential(multiplier=_RECONNECT_FIRST_S, max=_RECONNECT_MAX_S),
            before_sleep=_log_retry,
        ):
            with attempt:
                return await self._query(statement, *parameters)
        raise AssertionError("unreachable: the loop above only ends by returning")

    async def _query(self, statement: str, *parameters: object) -> list[Any]:
        """Run a statement on the work connection, made anew if it is lost; one that hangs counts as lost."""
        try:
            async with asyncio.timeout(_STATEMENT_DEADLINE_S):
                if self._session is None or self._session.closed or self._session.broken:
                    self._session = await psycopg.AsyncConnection.connect(
                        conninfo_for(self._conninfo, f"rakuten {self._stage} work"), autocommit=True
                    )
                cursor = await self._session.execute(statement, parameters)
                return await cursor.fetchall()
        except TimeoutError as error:
            if self._session is not None:
                await self._session.close()
            raise psycopg.OperationalError(f"no answer within {_STATEMENT_DEADLINE_S:g} s") from error
