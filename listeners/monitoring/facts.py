"""Read the numbers of the pipeline from PostgreSQL for one scrape, and describe each metric that they make."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from prometheus_client.core import Metric

from db.connect import open_async_connection
from db.sql import query

logger = structlog.get_logger()

# A scrape that takes longer is given up, by PostgreSQL and by the listener: Prometheus itself waits for 10 s.
DEADLINE_S: Final = 5.0
_SIZES_DEADLINE_S: Final = 1.5
_NUMBERS_DEADLINE_S: Final = DEADLINE_S - _SIZES_DEADLINE_S
_SIZES_VALID_FOR_S: Final = 300.0
_SIZES_RETRY_S: Final = 15.0

# What each metric says, for Prometheus. A histogram has the names of its samples without their ending.
GAUGES: Final[Mapping[str, str]] = {
    "rakuten_oldest_waiting_seconds": "How long the oldest batch that a stage has not finished has been ready for it; 0: none waits.",
    "rakuten_batches": "Batches by stage and state. A batch without a dataset waits for training, too.",
    "rakuten_attempts": "Attempts of a stage, over all batches.",
    "rakuten_failures": "Failures of a stage that its batches caused, over all batches.",
    "rakuten_outages": "How often a stage has postponed a batch because a service was unavailable, over all batches.",
    "rakuten_outage_seconds": "How long the present outage has lasted for a stage; 0: there is none.",
    "rakuten_listeners": "Listeners that are connected to PostgreSQL.",
    "rakuten_listener_silent_seconds": "Seconds since the last ping of the listener that has been silent for longest.",
    "rakuten_last_load_timestamp_seconds": "When the last week was loaded, in Unix time.",
    "rakuten_rows": "Rows of the training file that the weeks have loaded.",
    "rakuten_target_rows": "Rows of the training file that are loaded at MAX_PERCENTAGE.",
    "rakuten_model_f1": "Weighted F1 on the holdout, of the last model and of the champion, with its 95 % interval.",
    "rakuten_champion_version": "Version of the champion; the label is its batch.",
    "rakuten_models_worse_than_champion": "How many of the last three models have a 95 % interval of F1 below the champion's F1.",
    "rakuten_class_share": "Share of each class in the products of the last dataset, before it is balanced.",
    "rakuten_drifted": "1 if a feature of the last week differs from a reference by more than chance.",
    "rakuten_verification_timestamp_seconds": "When rakuten verify last ended, in Unix time.",
    "rakuten_verification_problems": "Checks of the last rakuten verify that found a change.",
    "rakuten_notification_queue_ratio": "Used share of PostgreSQL's queue of notifications.",
    "rakuten_storage_bytes": "Bytes of the pipeline's data. They are read every five minutes.",
    "rakuten_storage_bytes_per_week": "Estimated growth of the pipeline's data a week, in bytes.",
    "rakuten_model_servers": "Model servers that are connected to PostgreSQL.",
    "rakuten_model_servers_refusing": "Model servers that refuse to serve the champion.",
}
HISTOGRAMS: Final[Mapping[str, str]] = {
    "rakuten_commit_to_wake_seconds": "From the completion of a batch to the wake-up of the snapshot worker.",
    "rakuten_commit_to_dataset_seconds": "From the completion of a batch to its dataset.",
    "rakuten_commit_to_model_seconds": "From the completion of a batch to its model.",
}


class Sample(NamedTuple):
    """One number, as `internal.pipeline_metrics()` returns it."""

    name: str
    labels: dict[str, str]
    value: float | None


class PipelineFacts:
    """A connection to PostgreSQL that is opened by the first scrape. All methods run on the listener's event loop.

    Args:
        conninfo: connection string, with the role of the listener.
        application: the name of the connection in pg_stat_activity.
        max_percentage: the setting MAX_PERCENTAGE.
    """

    def __init__(self, conninfo: str, application: str, max_percentage: Decimal) -> None:
        self._conninfo, self._application, self._max_percentage = conninfo, application, max_percentage
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._sizes: list[Sample] = []
        self._sizes_due_at = 0.0

    async def read(self) -> list[Sample]:
        """Return the numbers.

        Raises:
            psycopg.Error: PostgreSQL is unavailable, or rejects the query.
            PipelineError: a pooler shares PostgreSQL's connections.
            TimeoutError: there was no answer before the deadline.
        """
        async with self._one_at_a_time:
            numbers = await self._query(
                "monitoring/pipeline_metrics", _NUMBERS_DEADLINE_S, max_percentage=self._max_percentage
            )
            if time.monotonic() >= self._sizes_due_at:
                await self._read_sizes()
        return numbers + self._sizes

    async def _read_sizes(self) -> None:
        """Read the sizes. If PostgreSQL does not answer them, keep those of before: it waits if somebody has locked a table."""
        try:
            self._sizes = await self._query("monitoring/storage_metrics", _SIZES_DEADLINE_S)
            self._sizes_due_at = time.monotonic() + _SIZES_VALID_FOR_S
        except (psycopg.Error, TimeoutError) as error:
            problem = str(error).strip() or f"no answer within {_SIZES_DEADLINE_S} s"
            logger.warning("PostgreSQL does not answer the sizes", error=problem)
            self._sizes_due_at = time.monotonic() + _SIZES_RETRY_S

    async def close(self) -> None:
        """Close the connection. The next scrape opens another one."""
        if self._connection is not None:
            await self._connection.close()

    async def _query(self, name: str, deadline_s: float, **parameters: object) -> list[Sample]:
        try:
            async with asyncio.timeout(deadline_s):
                if self._connection is None or self._connection.closed:
                    self._connection = await open_async_connection(self._conninfo, self._application)
                    limit = f"{DEADLINE_S:.0f}s"
                    await self._connection.execute(
                        "select set_config('statement_timeout', %s, false)", [limit]
                    )
                cursor = await self._connection.execute(query(name), parameters)
                return [Sample(*row) for row in await cursor.fetchall()]
        except BaseException:  # a query that was given up may still run in this connection
            await self.close()
            raise


def families(samples: Iterable[Sample]) -> Iterator[Metric]:
    """Yield the metrics that consist of these samples, with their descriptions."""
    found = {
        **{name: Metric(name, text, "gauge") for name, text in GAUGES.items()},
        **{name: Metric(name, text, "histogram") for name, text in HISTOGRAMS.items()},
    }
    family_of = {
        **{name: name for name in GAUGES},
        **{f"{name}_{part}": name for name in HISTOGRAMS for part in ("bucket", "count", "sum")},
    }
    for sample in samples:
        # A database of a newer version may have further names. A number is null if a record of a stage is damaged.
        if sample.name in family_of and sample.value is not None:
            found[family_of[sample.name]].add_sample(sample.name, sample.labels, sample.value)
    yield from (metric for metric in found.values() if metric.samples)
