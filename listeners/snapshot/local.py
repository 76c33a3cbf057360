"""Build a batch's dataset in this process: one parquet file (ENGINE=local)."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import structlog

from db.connect import ArrowConnection, connect_arrow
from listeners.snapshot.balance import HashOverSampler
from listeners.snapshot.copies import keep_copy
from listeners.snapshot.dataset_digest import identity_of
from listeners.snapshot.earlier import EarlierDataset, find_earlier_dataset
from listeners.snapshot.engine import Built, Request
from listeners.snapshot.parquet import PRODUCTS_PER_ROW_GROUP, verify_balanced, write_balanced
from listeners.snapshot.read import read_batch
from listeners.snapshot.rows import RowsCounter
from shared.categories import category_name
from shared.errors import StageError
from shared.hashing import sha256_of
from shared.mlflow_names import parquet_name

logger = structlog.get_logger()


def build_dataset(request: Request) -> Built:
    """Build a dataset as one parquet file, log it, and keep a copy of it in the local folder. See `build` for what it raises."""
    job, batch = request.job, request.job.batch
    path = request.run.scratch / parquet_name(request.name)
    earlier = find_earlier_dataset(request.connection, batch.id, job.settings.snapshots_path)
    logger.info("building", dataset=request.name, built_on=earlier.path.stem if earlier else None)
    counter = RowsCounter()

    def collect(rows: pa.Table) -> None:
        request.sample.collect(rows)
        counter.collect(rows)

    # `reader` may see a later state of the database than `request.connection`. Both read the same rows, because the history of a
    # completed batch never changes.
    with connect_arrow(job.conninfo, "rakuten snapshot read") as reader:
        stats = build(reader, batch.id, job.settings.random_seed, path, earlier, collect=collect)
    request.run.file(path)
    return Built(
        stats=stats,
        sha256=sha256_of(path),
        digest=identity_of(path).digest,
        rows=counter.summary(),
        file=path.name,
        recorded=keep_copy(path, job.settings.snapshots_path),
    )


def build(
    connection: ArrowConnection,
    batch_id: int,
    random_seed: int,
    path: Path,
    earlier: EarlierDataset | None = None,
    *,
    collect: Callable[[pa.Table], None] | None = None,
) -> dict[str, Any]:
    """Write a batch's balanced parquet file from the history tables, verify it, and return the file's statistics.

    The bytes of the file depend only on the batch and the seed, so the file can be rebuilt at any time. This function keeps in
    memory only a few numbers for each row of the batch, and one row group of the parquet file. The directory of `path` needs
    free space for the uncompressed training rows.

    Args:
        connection: a connection with a role that may read the history.
        batch_id: id of a completed batch.
        random_seed: seed of the draw that decides which rows of a class get one copy more than its other rows.
        path: the file to write.
        earlier: the dataset of an earlier batch. Rows that it shares with this batch are read from its file, and PostgreSQL
            sends only the remaining rows. The written file is the same with and without `earlier`.
        collect: gets the training rows in tables of the columns of the dataset, each row once, while they are read.

    Raises:
        StageError: the batch has no training rows.
        VerificationError: the written file does not hold exactly the rows of the batch, or its classes differ in size.
    """
    with TemporaryDirectory(dir=path.parent, prefix="rows-") as scratch:
        scratch_path = Path(scratch) / "rows.arrow"
        rows = read_batch(
            connection, batch_id, PRODUCTS_PER_ROW_GROUP, scratch_path, earlier, collect=collect
        )
        if not len(rows.productids):
            raise StageError(f"batch {batch_id} has no labelled training rows, so no dataset can be built")
        copies = HashOverSampler(random_seed=random_seed).count_copies(rows.productids, rows.labels)
        write_balanced(path, rows.chunks(), copies)
    balanced = verify_balanced(path, rows.productids, rows.labels, rows.holdout)
    codes, counts = np.unique(rows.labels, return_counts=True)
    return {
        "total_rows": sum(balanced.values()),
        "distinct_products": len(rows.productids),
        "held_out_products": rows.held_out,
        "classes": {
            str(code): {"name": category_name(code), "source_rows": count, "balanced_rows": balanced[code]}
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        },
    }
