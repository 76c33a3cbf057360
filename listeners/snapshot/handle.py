"""Run the snapshot stage: publish the test set and the holdout in MLflow, then build and publish a batch's dataset."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from mlflow.entities import Run
from psycopg.rows import TupleRow

from db.connect import ArrowConnection, connect, connect_arrow
from db.load.source_record import require_unchanged_settings
from listeners.job import Job
from listeners.snapshot.balance import HashOverSampler
from listeners.snapshot.card import DatasetFacts, RowsSummary, changes_of, data_card
from listeners.snapshot.copies import keep_copy, make_missing_copies
from listeners.snapshot.croissant import croissant
from listeners.snapshot.dataset_digest import identity_of
from listeners.snapshot.drift import DriftSample, find_groups
from listeners.snapshot.earlier import EarlierDataset, find_earlier_dataset
from listeners.snapshot.fixed_sets import ensure_fixed_sets, recorded_fixed_sets
from listeners.snapshot.leakage import require_no_leak
from listeners.snapshot.parquet import PRODUCTS_PER_ROW_GROUP, verify_balanced, write_balanced
from listeners.snapshot.plots import class_distribution
from listeners.snapshot.read import read_batch
from listeners.tracking.ownership import own_names
from listeners.tracking.results import recorded_drift
from listeners.tracking.runs import Publication, Tracking
from shared.categories import category_name
from shared.errors import StageError
from shared.hashing import sha256_of
from shared.mlflow_names import DATASET_EXPERIMENT, Artifact, Param, Tag, dataset_name, parquet_name

logger = structlog.get_logger()


def handle(job: Job) -> dict[str, Any]:
    """Build and publish the dataset of one batch, or reuse the dataset that an earlier attempt at this job has published.

    Return what PostgreSQL records about the dataset: the id of its MLflow run, numbers of rows and digests.

    Raises:
        SourceChangedError: the settings differ from those of the first load.
        StageError: the batch has no training rows, or a training row belongs to the holdout, or the written file fails
            verification.
    """
    batch = job.batch
    require_unchanged_settings(batch.source, job.settings)
    tracking = Tracking(job.settings)
    name = dataset_name(batch.name)
    with connect(job.conninfo, "rakuten snapshot build", autocommit=True) as connection:
        database = own_names(tracking, connection)
        published = tracking.finished_run(DATASET_EXPERIMENT, name, **batch.mlflow_tags)
        fixed_sets = ensure_fixed_sets(tracking, connection, job)
        copied: dict[str, str] = {}
        if published is None:
            published, copied = _publish(tracking, connection, job, name, database)
        make_missing_copies(tracking, connection, job.settings.snapshots_path)
    return {
        "run_id": published.info.run_id,
        "dataset": name,
        "total_rows": int(published.data.params["total_rows"]),
        "held_out_products": int(published.data.metrics["held_out_products"]),
        "classes": _source_counts(published),
        "dataset_sha256": published.data.tags[Tag.DATASET_SHA256],
        "dataset_digest": published.data.tags[Tag.DATASET_DIGEST],
        **(record := tracking.record_of(published.info.run_id)),
        **recorded_drift(tracking, published, record),
        **copied,
        "fixed_sets": recorded_fixed_sets(tracking, fixed_sets),
    }


def _source_counts(run: Run) -> dict[str, int]:
    """Return how many products of each class the dataset of a run has before it is balanced, by class code."""
    names = ((name, re.fullmatch(r"class_(\d+)_source_count", name)) for name in run.data.metrics)
    return {match[1]: int(run.data.metrics[name]) for name, match in names if match}


def _publish(
    tracking: Tracking,
    connection: psycopg.Connection[TupleRow],
    job: Job,
    name: str,
    database: str,
) -> tuple[Run, dict[str, str]]:
    """Build and publish the dataset. Return its MLflow run, and what PostgreSQL records about the file's copy."""
    batch = job.batch
    tags = {Tag.ATTEMPT: str(job.attempt), Tag.DATABASE: database, **batch.source_tags}
    with tracking.publishing(DATASET_EXPERIMENT, name, tags, job.require_claim, **batch.mlflow_tags) as run:
        require_no_leak(connection, batch.id)
        path = run.scratch / parquet_name(name)
        earlier = find_earlier_dataset(connection, batch.id, job.settings.snapshots_path)
        logger.info("building", dataset=name, built_on=earlier.path.stem if earlier else None)
        # `reader` may see a later state of the database than `connection`. Both read the same rows, because the history
        # of a completed batch never changes.
        with connect_arrow(job.conninfo, "rakuten snapshot read") as reader:
            sample, summary = find_groups(connection, batch.id), RowsSummary()

            def collect(rows: pa.Table) -> None:
                sample.collect(rows)
                summary.collect(rows)

            stats = build(reader, batch.id, job.settings.random_seed, path, earlier, collect=collect)
        sha256, digest = sha256_of(path), identity_of(path).digest
        _log(run, job, path, stats, {Tag.DATASET_SHA256: sha256, Tag.DATASET_DIGEST: digest})
        run.json(Artifact.CROISSANT, croissant(batch, name, stats, sha256))
        drift = _log_drift(run, sample, job.settings.random_seed)
        changes = changes_of(connection, batch.id)
        run.card(data_card(batch, DatasetFacts(name, stats, sha256, digest, summary, drift, changes)))
        copied = keep_copy(path, job.settings.snapshots_path)
    return tracking.client.get_run(run.run_id), copied


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


def _log_drift(run: Publication, sample: DriftSample, seed: int) -> dict[str, Any]:
    """Log the comparison of the new products with earlier ones, and which they are. Return the content of drift.json."""
    document = sample.document(seed=seed)
    run.json(Artifact.DRIFT, document)
    path = run.scratch / Artifact.DRIFT_SAMPLE
    pq.write_table(sample.table(), path)
    run.file(path)
    return document


def _log(run: Publication, job: Job, path: Path, stats: dict[str, Any], digests: dict[str, str]) -> None:
    name = path.stem
    source = {int(code): entry["source_rows"] for code, entry in stats["classes"].items()}
    balanced = {int(code): entry["balanced_rows"] for code, entry in stats["classes"].items()}
    run.file(path)
    title = f"{name}: {stats['distinct_products']:,} products in {len(source)} classes, balanced to {stats['total_rows']:,} rows"
    run.figure(Artifact.CLASS_DISTRIBUTION, class_distribution(title, source, balanced))
    run.json(
        Artifact.DATASET_STATS,
        {"dataset": name, "batch_id": job.batch.id, "dataset_sha256": digests[Tag.DATASET_SHA256], **stats},
    )
    run.dataset(name, digests[Tag.DATASET_DIGEST], path.name, "training", {"num_rows": stats["total_rows"]})
    run.values(
        params={
            "week_number": job.batch.week,
            "balancing_strategy": job.settings.balancing_strategy,
            "total_rows": stats["total_rows"],
            Param.RANDOM_SEED: job.settings.random_seed,
            "batch_id": job.batch.id,
        },
        metrics={
            "distinct_products": stats["distinct_products"],
            "held_out_products": stats["held_out_products"],
            "rows_per_class": next(iter(balanced.values())),  # the same for every class
            **{f"class_{code}_count": count for code, count in balanced.items()},
            **{f"class_{code}_source_count": count for code, count in source.items()},
        },
        tags=digests,
        step=job.batch.week,
    )
