"""Claim batches for one stage in PostgreSQL, hold each claim during the work, and record the outcome of the work.

PostgreSQL decides which worker holds a batch (db/sql/schema/060_stage_claims.sql). A worker that has claimed a batch holds a
session advisory lock. PostgreSQL releases the lock when the worker's connection ends, so that another worker can claim the
batch. Each claim also has an attempt number, and PostgreSQL accepts an outcome only from the newest attempt. So a worker that
has lost its claim changes nothing, and any number of workers can run for one stage.
"""

import asyncio
import os
import socket
import time
from datetime import timedelta
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from psycopg.types.json import Jsonb
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from db.connect import BACKOFF, open_async_connection
from db.sql import query
from db.sqlstates import Kind, meaning_of
from listeners.doorbell import Doorbell
from listeners.listen import WakeUp
from shared.batch import Batch
from shared.errors import DatabaseUnavailableError, FencedError
from shared.events import Stage

logger = structlog.get_logger()

# While another worker holds a batch, look for a free batch at this interval, because that worker may die.
_BUSY_INTERVAL_S: Final = 0.25
# The statements of this module wait only for row locks, which are held for milliseconds. If a statement has no answer after
# this time, the connection counts as lost.
_STATEMENT_DEADLINE_S: Final = 15.0


class Claim(NamedTuple):
    """A batch that this worker has claimed for its stage, snapshot or training.

    `attempt` is the number of this claim. `failures` counts the earlier failures of the batch in the stage. `wake` says what
    led the worker to the batch, for example `notify` for a notification.
    """

    batch: Batch
    attempt: int
    failures: int
    wake: str


class StageClaims:
    """The claims of one worker on batches.

    This object has its own connection, separate from the connection for LISTEN, and reconnects if the connection is lost.
    """

    def __init__(self, stage: Stage, conninfo: str) -> None:
        self._stage = stage
        self._conninfo = conninfo
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._session: psycopg.AsyncConnection[Any] | None = None

    async def claim_next(self, wake: WakeUp, doorbell: Doorbell) -> Claim | None:
        """Claim the oldest batch that is ready for this stage and that no other worker holds. Return None if there is none.

        PostgreSQL also records what woke the worker: `wake`, or the notification of the claimed batch if `doorbell` received
        one.
        """
        parameters = {
            "stage": self._stage,
            "worker": self._worker,
            "wake": wake.source,
            "waited": timedelta(seconds=max(0.0, time.monotonic() - wake.at)),
            "notified": Jsonb(doorbell.notified()),
        }
        rows = await self._retrying_query(query("stages/claim_next"), parameters)
        if not rows:
            return None
        [(attempt, failures, wake_source, *columns)] = rows
        batch = Batch(*columns)
        doorbell.forget(batch.id)
        return Claim(batch, attempt, failures, wake_source)

    async def next_look_in_s(self) -> float | None:
        """Return after how many seconds the worker should look for a batch again, or None if no batch waits.

        A batch that failed can be claimed when its backoff ends. If another worker holds a batch, the next look is after
        _BUSY_INTERVAL_S, because that worker may die and leave the batch free.
        """
        [(due_in_s, held_by_another)] = await self._retrying_query(
            query("stages/next_look"), {"stage": self._stage}
        )
        return _BUSY_INTERVAL_S if held_by_another else due_in_s

    async def hold(self, claim: Claim) -> None:
        """Check that no other worker has claimed the batch of `claim`, and lock the batch again if its lock was lost.

        The lock is lost when the connection to PostgreSQL ends.

        Raises:
            FencedError: another worker has claimed the batch.
        """
        [(held,)] = await self._retrying_query("select hold_stage(%s, %s, %s)", self._key(claim))
        if not held:
            raise FencedError(f"another worker has claimed batch {claim.batch.id}")

    async def finish(self, claim: Claim, result: dict[str, Any]) -> None:
        """Record the stage's result for the batch. PostgreSQL then sends a notification.

        The notification is dataset_ready from the snapshot stage and model_trained from the training stage.
        """
        await self._record("select finish_stage(%s, %s, %s, %s)", claim, Jsonb(result))

    async def release(self, claim: Claim) -> None:
        """Return the unfinished batch to the queue, so that any worker of the stage can claim it at once."""
        await self._record("select release_stage(%s, %s, %s)", claim)

    async def postpone(self, claim: Claim, reason: str, first: timedelta, longest: timedelta) -> None:
        """Return the batch to the queue because of an outage, for example of MLflow. The batch waits there for a delay.

        No worker claims the batch during the delay. The delay doubles with each outage in a row, from `first` up to `longest`.
        """
        await self._record("select postpone_stage(%s, %s, %s, %s, %s, %s)", claim, reason, first, longest)

    async def fail(self, claim: Claim, reason: str, backoff: timedelta | None) -> None:
        """Count a failure of the batch, and allow the next attempt after `backoff`.

        If `backoff` is None, the batch is given up: no attempt follows until somebody runs `rakuten retry`.
        """
        await self._record("select fail_stage(%s, %s, %s, %s, %s)", claim, reason, backoff)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def fileno(self) -> int | None:
        """Return the file descriptor of the connection that holds the claims' locks, or None if there is no connection.

        The descriptor becomes readable when the connection is lost.
        """
        return None if self._session is None or self._session.closed else self._session.fileno()

    def _key(self, claim: Claim) -> list[object]:
        return [claim.batch.id, self._stage, claim.attempt]

    async def _record(self, statement: str, claim: Claim, *values: object) -> None:
        """Run the statement that records the outcome of a claim. Raise FencedError if this worker has lost the claim."""
        try:
            await self._retrying_query(statement, [*self._key(claim), *values])
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise FencedError(str(error).splitlines()[0]) from error

    async def _retrying_query(self, statement: str, parameters: Any) -> list[Any]:
        """Run a statement that is safe to repeat, and repeat it until PostgreSQL can run it.

        Only a defect of the statement or its data raises an error: see db/sqlstates.py.

        Recording the outcome of a claim is safe to repeat. Suppose that PostgreSQL committed the first run and only
        the answer was lost. Then the batch has a new state, and PostgreSQL rejects the second run: nothing is recorded twice.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_worth_repeating), wait=BACKOFF, before_sleep=_log_retry
        )
        rows: list[Any] = await retrying(self._query, statement, parameters)
        return rows

    async def _query(self, statement: str, parameters: Any) -> list[Any]:
        """Run a statement and return its rows. Connect first if there is no connection.

        If PostgreSQL does not answer within _STATEMENT_DEADLINE_S, close the connection, which then counts as lost.
        """
        try:
            async with asyncio.timeout(_STATEMENT_DEADLINE_S):
                if self._session is None or self._session.closed or self._session.broken:
                    self._session = await open_async_connection(self._conninfo, f"rakuten {self._stage} work")
                cursor = await self._session.execute(statement, parameters)
                return await cursor.fetchall()
        except psycopg.errors.ReadOnlySqlTransaction:
            await self.close()  # another of the hosts in the address may be the primary now
            raise
        except TimeoutError as error:
            await self.close()
            raise psycopg.OperationalError(f"no answer within {_STATEMENT_DEADLINE_S:g} s") from error


def _is_worth_repeating(error: BaseException) -> bool:
    """Return True if the statement can succeed later: the server is available again, or a person has corrected a setting."""
    if isinstance(error, DatabaseUnavailableError):
        return True
    return isinstance(error, psycopg.Error) and meaning_of(error).kind is not Kind.DEFECT


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    remedy = meaning_of(error).remedy if isinstance(error, psycopg.Error) else None
    logger.warning(
        "PostgreSQL cannot do it now: trying again",
        error=str(error).strip(),
        remedy=remedy,
        attempt=state.attempt_number,
    )
