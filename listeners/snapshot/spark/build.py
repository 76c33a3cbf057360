"""Build the dataset of one batch on Spark: read, balance, write, verify, hash, commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import structlog
from psycopg.rows import TupleRow
from pyspark.sql import SparkSession

from db.connect import connect
from db.sql import query
from listeners.datasets.manifest import Manifest
from listeners.datasets.store import Store
from listeners.snapshot.spark.balance import Balanced, balance
from listeners.snapshot.spark.digest import identify, read_rows
from listeners.snapshot.spark.read import Source, Watermarks, read_batch
from listeners.snapshot.spark.verify import verify
from listeners.snapshot.spark.write import EarlierFolder, PartWriter, write_parts
from listeners.spark.errors import translate_errors
from listeners.spark.session import set_shuffle_partitions
from shared.categories import category_name
from shared.errors import OutageError, PipelineError, StageError

logger = structlog.get_logger()

ENTRIES_PER_PART: Final = 1 << 16
_ENTRIES_PER_PARTITION: Final = 250_000  # of a shuffle: some 10 MB of ids and labels
_ATTEMPT: Final = "attempt-"


@dataclass(frozen=True)
class Order:
    """Which dataset to build, and where.

    Attributes:
        dataset: name of the dataset, for example train_week_7.
        batch_id: id of the completed batch.
        random_seed: decides which products get one copy more than the other ones of their class.
        source: PostgreSQL, with the role of the snapshot stage.
        folder: the folder of this dataset in DATASET_STORE. Each attempt has a folder of its own in it.
        attempt: number of the claim; each new claim of a batch has a higher number.
        require_claim: raises FencedError if the claim is lost. It is called before the manifest is written.
        entries_per_part: number of history ids whose products one file holds.
        use_earlier: whether files of an earlier dataset may be read instead of PostgreSQL. The bytes are the same.
    """

    dataset: str
    batch_id: int
    random_seed: int
    source: Source
    folder: Store
    attempt: int
    require_claim: Callable[[], None]
    entries_per_part: int = ENTRIES_PER_PART
    use_earlier: bool = True


@dataclass(frozen=True)
class WrittenDataset:
    """A dataset that was written: its folder, its manifest, and the statistics that `listeners.snapshot.local.build` returns."""

    folder: Store
    manifest: Manifest
    stats: dict[str, Any]


def build(spark: SparkSession, order: Order) -> WrittenDataset:
    """Build and commit a dataset. If this fails, remove the files of this attempt.

    Raises:
        StageError: the batch has no training rows. Or executors died.
        VerificationError: the written files do not hold exactly the training rows of the batch, balanced.
        OutageError: PostgreSQL, the cluster or the store is unavailable.
        FencedError: the claim is lost.
    """
    _remove_dead_attempts(order)
    folder = order.folder.folder(f"{_ATTEMPT}{order.attempt:06d}")
    folder.remove()
    folder.create()
    try:
        with translate_errors():
            built = _build(spark, order, folder)
        folder.remove_partial_files()
        order.require_claim()
        built.manifest.write(folder)
    except BaseException:
        with _only_logged():
            folder.remove()
        raise
    with _only_logged():
        _remove_dead_attempts(order)  # an attempt that lost its claim may have written until now
    return built


@contextmanager
def _only_logged() -> Iterator[None]:
    """Log that files cannot be removed: a lost task may still write into the folder. The next dataset or attempt removes them."""
    try:
        yield
    except (OSError, OutageError) as error:
        logger.warning("the files of an attempt were not removed", error=str(error))


def _build(spark: SparkSession, order: Order, folder: Store) -> WrittenDataset:
    with connect(order.source.conninfo, "rakuten snapshot build", autocommit=True) as connection:
        watermarks = Watermarks.of_batch(connection, order.batch_id)
        earlier = _find_earlier(connection, order) if order.use_earlier else None
    entries = watermarks.products_up_to + watermarks.labels_up_to
    set_shuffle_partitions(spark, -(-entries // _ENTRIES_PER_PARTITION))
    batch = read_batch(spark, order.source, watermarks)
    try:
        balanced = balance(spark, batch.training, order.random_seed)
        if not balanced.source_rows:
            raise StageError(
                f"batch {order.batch_id} has no labelled training rows, so no dataset can be built"
            )
        held_out = batch.held_out.count()
        writer = PartWriter(order.source, folder, order.entries_per_part)
        parts = write_parts(balanced.products, writer, earlier)
        rows = read_rows(spark, folder, parts)
        try:
            verify(rows, balanced, batch.held_out)
            digest = identify(rows).digest
        finally:
            rows.unpersist()
    finally:
        batch.release()
    stats = _stats(balanced, held_out)
    manifest = Manifest(
        dataset=order.dataset,
        batch_id=order.batch_id,
        random_seed=order.random_seed,
        products_up_to=watermarks.products_up_to,
        labels_up_to=watermarks.labels_up_to,
        entries_per_part=order.entries_per_part,
        products=stats["distinct_products"],
        rows=stats["total_rows"],
        dataset_digest=digest,
        parts=parts,
    )
    return WrittenDataset(folder, manifest, stats)


def _stats(balanced: Balanced, held_out: int) -> dict[str, Any]:
    """Return what the local engine's `build` returns."""
    return {
        "total_rows": len(balanced.source_rows) * balanced.rows_per_class,
        "distinct_products": sum(balanced.source_rows.values()),
        "held_out_products": held_out,
        "classes": {
            str(code): {
                "name": category_name(code),
                "source_rows": count,
                "balanced_rows": balanced.rows_per_class,
            }
            for code, count in balanced.source_rows.items()
        },
    }


def _find_earlier(connection: psycopg.Connection[TupleRow], order: Order) -> EarlierFolder | None:
    """Return the newest earlier dataset in a folder, with those of its files whose range of history ids it has whole.

    A product's newest entry in such a range was its newest entry then, too: entries are only added. So its texts are the same.
    """
    row = connection.execute(query("snapshot/earlier_folder"), {"batch_id": order.batch_id}).fetchone()
    if row is None:
        return None
    folder = Store(row[0])
    try:
        manifest = Manifest.read(folder, row[1])
    except (PipelineError, OSError) as error:
        logger.warning(
            "the earlier dataset cannot be read, so all texts come from PostgreSQL", error=str(error)
        )
        return None
    if manifest.entries_per_part != order.entries_per_part:
        return None
    whole = (
        manifest.products_up_to + 1
    ) // order.entries_per_part  # the number of ranges that the earlier dataset has whole
    return EarlierFolder(folder, {part.number: part for part in manifest.parts if part.number < whole})


def _remove_dead_attempts(order: Order) -> None:
    """Remove what earlier attempts at this dataset have left. None of them is published: its run would have been adopted."""
    for name in order.folder.folders():
        number = name.removeprefix(_ATTEMPT)
        if name.startswith(_ATTEMPT) and number.isdecimal() and int(number) < order.attempt:
            logger.info("removing the files of an earlier attempt", folder=name)
            order.folder.folder(name).remove()
