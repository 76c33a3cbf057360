"""The two sets that never change: the challenge's test products and the labelled holdout, versioned once."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.rows import TupleRow

from db import source
from listeners.digest import sha256_of
from listeners.mlflow_runs import Tracking
from listeners.snapshot.read import SCHEMA
from shared.config import Settings
from shared.mlflow_names import DATASET_EXPERIMENT, HOLDOUT_SET, TAG_DATASET_SHA256, TEST_SET, parquet_name

# Any number that nothing else in this database locks: 'fixed' in ASCII.
_FIXED_SETS_LOCK = 0x6669786564


def ensure_fixed_sets(
    tracking: Tracking,
    connection: psycopg.Connection[TupleRow],
    settings: Settings,
    require_claim: Callable[[], None],
) -> None:
    """Version test_df and holdout_df if MLflow does not have them; one worker at a time, whatever batch it works on."""
    if all(tracking.finished_run(DATASET_EXPERIMENT, name) for name in (TEST_SET, HOLDOUT_SET)):
        return
    connection.execute("select pg_advisory_lock(%s)", [_FIXED_SETS_LOCK])
    try:
        if not tracking.finished_run(DATASET_EXPERIMENT, TEST_SET):
            _publish(tracking, settings, TEST_SET, _test_set(settings.data_path), require_claim)
        if not tracking.finished_run(DATASET_EXPERIMENT, HOLDOUT_SET):
            _publish(tracking, settings, HOLDOUT_SET, _holdout_set(settings), require_claim)
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_FIXED_SETS_LOCK])


def _test_set(directory: Path) -> pa.Table:
    """X_test.csv in file order; `source_index` is the index that a submission to the challenge names."""
    table = source.read_test_set(directory)
    columns = {"source_index": table["index"]}
    columns |= {name: table[name] for name in SCHEMA.names if name in table.column_names}
    return pa.table(columns)


def _holdout_set(settings: Settings) -> pa.Table:
    training_set = source.read_training_set(
        settings.data_path, settings.random_seed, settings.holdout_percentage
    )
    return training_set.holdout().select(SCHEMA.names).cast(SCHEMA)


def _publish(
    tracking: Tracking, settings: Settings, name: str, table: pa.Table, require_claim: Callable[[], None]
) -> None:
    with tracking.publishing(DATASET_EXPERIMENT, name, {}, require_claim) as run:
        path = run.scratch / parquet_name(name)
        pq.write_table(table, path, compression="zstd")
        digest = sha256_of(path)
        run.file(path)
        run.values(
            params={
                "total_rows": table.num_rows,
                "random_seed": settings.random_seed,
                "holdout_percentage": settings.holdout_percentage,
                "labelled": "prdtypecode" in table.column_names,
            },
            tags={TAG_DATASET_SHA256: digest},
        )
        run.dataset(name, digest, path.name, "evaluation", {"num_rows": table.num_rows})
