"""The dataset of an earlier batch, to build on where what came since is only new products.

A week's rows are last week's and those that came since, in this order: the source's permutation decides both. So last week's file,
whose digest PostgreSQL has on record, holds all rows but the new ones. Where anything else happened, a correction or a deletion,
the batch is read as a whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
from psycopg.rows import TupleRow

from db.sql import query
from listeners.snapshot.parquet import distinct_numbers, distinct_rows
from shared.hashing import sha256_of
from shared.mlflow_names import dataset_name, parquet_name


@dataclass(frozen=True)
class EarlierDataset:
    """The distinct rows of an earlier dataset, all of which its successor holds before any other.

    Attributes:
        path: its file.
        productids: shape (rows,), int64, in total order.
        labels: shape (rows,), int32, their classes.
        rows_of_groups: how many rows each row group holds.
        held_out: how many products its batch held out.
        between: the entries of the history that came since: `products_after` to `products_up_to`, `labels_after` to
            `labels_up_to`.
    """

    path: Path
    productids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    rows_of_groups: list[int]
    held_out: int
    between: Mapping[str, int]

    def full_groups(self, rows_per_group: int) -> Iterator[pa.Table]:
        """The row groups of so many rows: all, or all but the last."""
        return distinct_rows(self.path, range(sum(rows == rows_per_group for rows in self.rows_of_groups)))

    def remainder(self, rows_per_group: int) -> Iterator[pa.Table]:
        """The last row group, if it is not full."""
        last = len(self.rows_of_groups) - 1
        return distinct_rows(
            self.path, [group for group in [last] if self.rows_of_groups[group] < rows_per_group]
        )


def find_earlier_dataset(
    connection: psycopg.Connection[TupleRow], batch_id: int, directory: Path, rows_per_group: int
) -> EarlierDataset | None:
    """What a batch's dataset can be built on, or None: no dataset before it, or none that only lacks the newest rows.

    Args:
        connection: of a role that may read the history.
        batch_id: a completed batch.
        directory: where the copies of datasets are. One whose SHA-256 is not on record in PostgreSQL is not looked at.
        rows_per_group: the distinct rows of a row group.
    """
    recorded = connection.execute(query("snapshot/earlier_dataset"), {"batch_id": batch_id}).fetchone()
    if recorded is None:
        return None
    batch_name, sha256, held_out, between = recorded
    path = directory / parquet_name(dataset_name(batch_name))
    if not path.exists() or sha256_of(path) != sha256:
        return None
    groups = list(distinct_numbers(path))
    productids, labels = (np.concatenate(numbers) for numbers in zip(*groups, strict=True))
    rows_of_groups = [len(ids) for ids, _labels in groups]
    if any(rows != rows_per_group for rows in rows_of_groups[:-1]) or rows_of_groups[-1] > rows_per_group:
        return None
    [only_additions] = connection.execute(
        query("snapshot/has_only_additions"), {**between, "last_productid": int(productids[-1])}
    ).fetchone() or [False]
    if not only_additions:
        return None
    return EarlierDataset(path, productids, labels, rows_of_groups, held_out, between)
