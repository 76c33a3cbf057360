"""Publish the test set (X_test.csv) and the labelled holdout set to MLflow, once for all batches. The sets never change."""

from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.rows import TupleRow

from db.load.source_record import require_unchanged_source
from db.locks import Lock, advisory_lock
from db.source.training_set import read_test_set, read_training_set
from listeners.job import Job
from listeners.snapshot.parquet import SCHEMA
from listeners.tracking.runs import Tracking
from shared.hashing import sha256_of
from shared.mlflow_names import DATASET_EXPERIMENT, HOLDOUT_SET, TEST_SET, Param, Tag, parquet_name

_NAMES = (TEST_SET, HOLDOUT_SET)


def ensure_fixed_sets(
    tracking: Tracking, connection: psycopg.Connection[TupleRow], job: Job
) -> dict[str, str]:
    """Publish test_df and holdout_df to MLflow, unless MLflow already has these sets from the same source files.

    A lock lets only one worker at a time publish them, even if the workers build datasets of different batches.

    Returns:
        The MLflow run id of each of the two sets, by name of the set.

    Raises:
        SourceChangedError: the source files differ from those of the first load. A holdout that is drawn from changed files
            could contain products on which models are trained.
    """
    runs = _find_published(tracking, job)
    if len(runs) < len(_NAMES):
        with advisory_lock(connection, Lock.FIXED_SETS):
            if len(_find_published(tracking, job)) < len(_NAMES):
                _publish_missing(tracking, job)
        runs = _find_published(tracking, job)
    return runs


def recorded_fixed_sets(tracking: Tracking, run_ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return what PostgreSQL records about test_df and holdout_df: the MLflow run of each, its digests and sizes."""
    return {name: {"run_id": run_id, **tracking.record_of(run_id)} for name, run_id in run_ids.items()}


def _find_published(tracking: Tracking, job: Job) -> dict[str, str]:
    """Return the run ids of test_df and holdout_df in MLflow, by name. A set that is not published yet is left out."""
    runs = {name: tracking.finished_run(DATASET_EXPERIMENT, name, **job.batch.source_tags) for name in _NAMES}
    return {name: run.info.run_id for name, run in runs.items() if run is not None}


def _publish_missing(tracking: Tracking, job: Job) -> None:
    settings = job.settings
    training_set = read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)
    require_unchanged_source(job.batch.source, settings, training_set)
    sets = {
        TEST_SET: _test_set(settings.data_path),
        HOLDOUT_SET: training_set.holdout().select(SCHEMA.names).cast(SCHEMA),
    }
    for name, table in sets.items():
        if not tracking.finished_run(DATASET_EXPERIMENT, name, **job.batch.source_tags):
            _publish(tracking, job, name, table)


def _test_set(directory: Path) -> pa.Table:
    """Return the products of X_test.csv in file order, with the file's index column as `source_index`.

    A submission to the Rakuten challenge identifies each product by this index.
    """
    table = read_test_set(directory)
    columns = {"source_index": table["index"]}
    columns |= {name: table[name] for name in SCHEMA.names if name in table.column_names}
    return pa.table(columns)


def _publish(tracking: Tracking, job: Job, name: str, table: pa.Table) -> None:
    with tracking.publishing(DATASET_EXPERIMENT, name, {}, job.require_claim, **job.batch.source_tags) as run:
        path = run.scratch / parquet_name(name)
        pq.write_table(table, path, compression="zstd")
        digest = sha256_of(path)
        run.file(path)
        run.values(
            params={
                "total_rows": table.num_rows,
                Param.RANDOM_SEED: job.settings.random_seed,
                "holdout_percentage": job.settings.holdout_percentage,
                "labelled": "prdtypecode" in table.column_names,
            },
            tags={Tag.DATASET_SHA256: digest},
        )
        run.dataset(name, digest, path.name, "evaluation", {"num_rows": table.num_rows})
