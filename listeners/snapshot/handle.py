"""Run the snapshot stage: publish the test set and the holdout in MLflow, then build and publish a batch's dataset."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
import pyarrow.parquet as pq
from mlflow.entities import Run
from psycopg.rows import TupleRow

from db.connect import connect
from db.load.source_record import require_unchanged_settings
from listeners.job import Job
from listeners.snapshot.card import DatasetFacts, changes_of, data_card
from listeners.snapshot.copies import make_missing_copies
from listeners.snapshot.croissant import croissant
from listeners.snapshot.drift import DriftSample, find_groups
from listeners.snapshot.engine import Built, Request, engine_of
from listeners.snapshot.fixed_sets import ensure_fixed_sets, recorded_fixed_sets
from listeners.snapshot.leakage import require_no_leak
from listeners.snapshot.plots import class_distribution
from listeners.tracking.ownership import own_names
from listeners.tracking.results import recorded_drift
from listeners.tracking.runs import Publication, Tracking
from shared.mlflow_names import DATASET_EXPERIMENT, Artifact, Param, Tag, dataset_name


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
        copied: Mapping[str, str] = {}
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
        **({"dataset_uri": uri} if (uri := published.data.tags.get(Tag.DATASET_URI)) else {}),
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
) -> tuple[Run, Mapping[str, str]]:
    """Build and publish the dataset. Return its MLflow run, and what PostgreSQL records about the file's copy."""
    batch = job.batch
    tags = {Tag.ATTEMPT: str(job.attempt), Tag.DATABASE: database, **batch.source_tags}
    with tracking.publishing(DATASET_EXPERIMENT, name, tags, job.require_claim, **batch.mlflow_tags) as run:
        require_no_leak(connection, batch.id)
        sample = find_groups(connection, batch.id)
        built = engine_of(job.settings)(Request(job, name, database, connection, run, sample))
        _log(run, job, name, built)
        run.json(Artifact.CROISSANT, croissant(batch, name, built.stats, built.file, built.sha256))
        drift = _log_drift(run, sample, job.settings.random_seed)
        run.card(data_card(batch, DatasetFacts(name, built, drift, changes_of(connection, batch.id))))
    return tracking.client.get_run(run.run_id), built.recorded


def _log_drift(run: Publication, sample: DriftSample, seed: int) -> dict[str, Any]:
    """Log the comparison of the new products with earlier ones, and which they are. Return the content of drift.json."""
    document = sample.document(seed=seed)
    run.json(Artifact.DRIFT, document)
    path = run.scratch / Artifact.DRIFT_SAMPLE
    pq.write_table(sample.table(), path)
    run.file(path)
    return document


def _log(run: Publication, job: Job, name: str, built: Built) -> None:
    stats = built.stats
    source = {int(code): entry["source_rows"] for code, entry in stats["classes"].items()}
    balanced = {int(code): entry["balanced_rows"] for code, entry in stats["classes"].items()}
    title = f"{name}: {stats['distinct_products']:,} products in {len(source)} classes, balanced to {stats['total_rows']:,} rows"
    run.figure(Artifact.CLASS_DISTRIBUTION, class_distribution(title, source, balanced))
    run.json(
        Artifact.DATASET_STATS,
        {"dataset": name, "batch_id": job.batch.id, "dataset_sha256": built.sha256, **stats},
    )
    run.dataset(name, built.digest, built.uri or built.file, "training", {"num_rows": stats["total_rows"]})
    run.values(
        params={
            "week_number": job.batch.week,
            "balancing_strategy": job.settings.balancing_strategy,
            "total_rows": stats["total_rows"],
            Param.ENGINE: job.settings.engine,
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
        tags={
            Tag.DATASET_SHA256: built.sha256,
            Tag.DATASET_DIGEST: built.digest,
            **({Tag.DATASET_URI: built.uri} if built.uri else {}),
        },
        step=job.batch.week,
    )
