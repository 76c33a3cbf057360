"""Read a batch from PostgreSQL with many tasks, and find out which products it holds.

What a batch holds is decided by the history entries up to its watermarks (its last history ids), and a history entry never
changes. So tasks may read their ranges of ids at different moments, and a task that is repeated reads the same rows. PostgreSQL
only scans ranges of the primary key. Which entry is a product's newest one, and which label belongs to it, is found in Spark.

Only ids and labels are read here, about 30 bytes for each entry. The texts follow when the dataset is written
(listeners/snapshot/spark/write.py).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg
import pyarrow as pa
from psycopg.rows import TupleRow
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from tenacity import Retrying, retry_if_exception_type, stop_after_delay

from db.connect import BACKOFF, ArrowConnection, connect_arrow
from db.sql import query
from listeners.spark.errors import carry_errors
from shared.errors import DatabaseUnavailableError, StageError

_ENTRIES_PER_QUERY: Final = 1 << 18
_OUTAGE_S: Final = (
    60  # a task waits so long for PostgreSQL to return; then it fails, and Spark tries it again
)
_PRODUCTS: Final = "history_id long, product_id long, productid long, state boolean"
_LABELS: Final = "history_id long, label_id long, productid long, prdtypecode int"


@dataclass(frozen=True)
class Source:
    """PostgreSQL, as the tasks read it: through at most `connections` connections at once, with the role of the snapshot stage.

    Spark pickles this object with the code of a task. So the password in `conninfo` is in no plan, log or setting of Spark.
    """

    conninfo: str = field(repr=False)
    connections: int

    @contextmanager
    def reader(self) -> "Iterator[HistoryReader]":
        with ExitStack() as stack:
            yield HistoryReader(self.conninfo, stack)


class HistoryReader:
    """A connection of one task, which reads ranges of history ids. If PostgreSQL restarts, it connects again."""

    def __init__(self, conninfo: str, stack: ExitStack) -> None:
        self._conninfo, self._stack = conninfo, stack
        self._connection: ArrowConnection | None = None

    def read(self, statement: str, after: int, up_to: int) -> list[pa.RecordBatch]:
        """Return the rows of a statement about the entries with after < history_id <= up_to.

        Raises:
            DatabaseUnavailableError: PostgreSQL was unavailable for a minute.
            psycopg.Error: PostgreSQL rejects the statement.
        """
        errors = retry_if_exception_type((DatabaseUnavailableError, psycopg.OperationalError))
        retrying = Retrying(retry=errors, wait=BACKOFF, stop=stop_after_delay(_OUTAGE_S), reraise=True)
        batches: list[pa.RecordBatch] = retrying(self._read_once, statement, after, up_to)
        return batches

    def _read_once(self, statement: str, after: int, up_to: int) -> list[pa.RecordBatch]:
        if self._connection is None:
            self._connection = self._stack.enter_context(
                connect_arrow(self._conninfo, "rakuten snapshot task")
            )
        try:
            return list(self._connection.read(statement, {"after": after, "up_to": up_to}))
        except psycopg.OperationalError:
            self._connection = None
            self._stack.close()
            raise


@dataclass(frozen=True)
class Watermarks:
    """The last history ids of a batch."""

    products_up_to: int
    labels_up_to: int

    @classmethod
    def of_batch(cls, connection: psycopg.Connection[TupleRow], batch_id: int) -> "Watermarks":
        """Read the watermarks of a completed batch; raise StageError if the batch is not complete."""
        row = connection.execute(query("snapshot/watermarks"), {"batch_id": batch_id}).fetchone()
        if row is None:
            raise StageError(f"batch {batch_id} is not complete, so no dataset can be built")
        return cls(*row)


@dataclass(frozen=True)
class BatchFrames:
    """The products of a batch, kept by Spark until `release`.

    Attributes:
        training: history_id (of the newest entry), productid and prdtypecode of each labelled training product.
        held_out: productid of each held-out product.
    """

    training: DataFrame
    held_out: DataFrame
    release: Callable[[], None]


def read_batch(spark: SparkSession, source: Source, watermarks: Watermarks) -> BatchFrames:
    """Read which products a batch holds. The result is computed when it is first used."""
    labels = (
        _scan(spark, source, "snapshot/label_entries", watermarks.labels_up_to, _LABELS)
        .groupBy("label_id")
        .agg(
            f.max_by("productid", "history_id").alias("productid"),
            f.max_by("prdtypecode", "history_id").alias("prdtypecode"),
        )
        .where("prdtypecode is not null")
        .select("productid", "prdtypecode")
        .persist()
    )
    labels.count()  # the labels are read before the products, so that no more tasks than `connections` read at once
    newest = (
        _scan(spark, source, "snapshot/product_entries", watermarks.products_up_to, _PRODUCTS)
        .groupBy("product_id")
        .agg(
            f.max("history_id").alias("history_id"),
            f.max_by("productid", "history_id").alias("productid"),
            f.max_by("state", "history_id").alias("state"),
        )
        .where("state is not null")
        .select("history_id", "productid", "state")
        .join(labels, "productid", "left")
        .where("not state or prdtypecode is not null")
        .persist()
    )

    def release() -> None:
        newest.unpersist()
        labels.unpersist()

    return BatchFrames(
        training=newest.where("state").select("history_id", "productid", "prdtypecode"),
        held_out=newest.where("not state").select("productid"),
        release=release,
    )


def _scan(spark: SparkSession, source: Source, name: str, up_to: int, schema: str) -> DataFrame:
    """Return the rows of the query `name` for all entries up to an id, read by at most `source.connections` tasks."""
    statement = query(name)
    tasks = max(1, min(source.connections, -(-up_to // _ENTRIES_PER_QUERY)))

    def read(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with carry_errors(), source.reader() as reader:
            for number in (number for batch in numbers for number in batch["id"].to_pylist()):
                for after in range(number * _ENTRIES_PER_QUERY, up_to, tasks * _ENTRIES_PER_QUERY):
                    yield from map(
                        _plain, reader.read(statement, after, min(after + _ENTRIES_PER_QUERY, up_to))
                    )

    return spark.range(0, tasks, 1, tasks).mapInArrow(read, schema)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Drop the metadata that ADBC adds to the columns."""
    return pa.RecordBatch.from_arrays(batch.columns, names=batch.schema.names)
