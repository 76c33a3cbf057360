"""Find the dataset of an earlier batch to build on, if only new products were added since.

A week's rows are last week's rows, followed by the new rows: the permutation of the source fixes this order. So last week's
file holds all rows except the new rows, and PostgreSQL has recorded its digest. If rows were corrected or deleted, or changed
in any other way, the whole batch is read from PostgreSQL.
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
    """The dataset of an earlier batch. A later dataset can be built on it, and then begins with the same rows.

    Attributes:
        path: parquet file of the earlier dataset.
        held_out: number of products that its batch held out.
        history_range: the range of history ids that were added since: above `products_after` up to `products_up_to`, and above
            `labels_after` up to `labels_up_to`.
    """

    path: Path
    held_out: int
    history_range: Mapping[str, int]

    def rows(self) -> Iterator[pa.Table]:
        """Yield the distinct rows of the earlier dataset in their total order, as tables of `SCHEMA`."""
        return distinct_rows(self.path)


def find_earlier_dataset(
    connection: psycopg.Connection[TupleRow], batch_id: int, directory: Path
) -> EarlierDataset | None:
    """Return the newest dataset before a batch, or None if rows were changed or removed since, or its file is missing.

    Args:
        connection: a connection with a role that may read the history.
        batch_id: id of a completed batch.
        directory: directory with the copies of datasets. A file is used only if its SHA-256 is the recorded SHA-256.
    """
    recorded = connection.execute(query("snapshot/earlier_dataset"), {"batch_id": batch_id}).fetchone()
    if recorded is None:
        return None
    batch_name, sha256, held_out, history_range = recorded
    path = directory / parquet_name(dataset_name(batch_name))
    if not path.exists() or sha256_of(path) != sha256:
        return None
    [only_additions] = connection.execute(
        query("snapshot/has_only_additions"), {**history_range, "last_productid": last_productid(path)}
    ).fetchone() or [False]
    return EarlierDataset(path, held_out, history_range) if only_additions else None
