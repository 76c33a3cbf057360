"""Find the dataset of an earlier batch to build on, if only new products came since.

A week's rows are last week's rows and, after them, the new ones: the source's permutation decides both. So last week's file,
whose digest PostgreSQL has on record, holds all rows but the new ones. If anything else happened, a correction or a deletion,
the batch is read as a whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow as pa
from psycopg.rows import TupleRow

from db.sql import query
from listeners.snapshot.parquet import distinct_rows, last_productid
from shared.hashing import sha256_of
from shared.mlflow_names import dataset_name, parquet_name


@dataclass(frozen=True)
class EarlierDataset:
    """An earlier dataset, whose rows its successor holds before any other.

    Attributes:
        path: its file.
        held_out: how many products its batch held out.
        between: the history entries that came since: after `products_after` and `labels_after`, up to `products_up_to` and
            `labels_up_to`.
    """

    path: Path
    held_out: int
    between: Mapping[str, int]

    def rows(self) -> Iterator[pa.Table]:
        """Its distinct rows in total order, as tables of `SCHEMA`."""
        return distinct_rows(self.path)


def find_earlier_dataset(
    connection: psycopg.Connection[TupleRow], batch_id: int, directory: Path
) -> EarlierDataset | None:
    """Return the newest dataset before a batch, or None if the batch changed more than it added, or the file is not here.

    Args:
        connection: of a role that may read the history.
        batch_id: a completed batch.
        directory: where the copies of datasets are. A file whose SHA-256 is not the recorded one is not used.
    """
    recorded = connection.execute(query("snapshot/earlier_dataset"), {"batch_id": batch_id}).fetchone()
    if recorded is None:
        return None
    batch_name, sha256, held_out, between = recorded
    path = directory / parquet_name(dataset_name(batch_name))
    if not path.exists() or sha256_of(path) != sha256:
        return None
    [only_additions] = connection.execute(
        query("snapshot/has_only_additions"), {**between, "last_productid": last_productid(path)}
    ).fetchone() or [False]
    return EarlierDataset(path, held_out, between) if only_additions else None
