"""Compute the digest of a dataset from its written files with many tasks: the digest of listeners/snapshot/dataset_digest.py.

Tasks hash the rows of the files. Then Spark sorts the hashes by class and productid. Each task computes the hashes of complete
subtrees of the classes' Merkle trees for its run of leaves, and the driver joins them to the roots.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from listeners.datasets.manifest import Part
from listeners.datasets.store import Store
from listeners.snapshot.dataset_digest import ClassIdentity, DatasetIdentity, count_rows, leaf_of
from listeners.snapshot.merkle import Subtree, join_subtrees, subtrees_of
from listeners.spark.errors import carry_errors
from listeners.spark.parts import map_parts
from shared.errors import VerificationError

_ROWS: Final = "prdtypecode long, productid long, hash binary, copies long"
_ROWS_ARROW: Final = ["prdtypecode", "productid", "hash", "copies"]
_SUBTREES: Final = "prdtypecode long, level int, place long, hash binary"
_SUBTREES_ARROW: Final = pa.schema(
    [("prdtypecode", pa.int64()), ("level", pa.int32()), ("place", pa.int64()), ("hash", pa.binary())]
)


def read_rows(spark: SparkSession, folder: Store, parts: Sequence[Part]) -> DataFrame:
    """Read class, productid, SHA-256 and number of copies of each distinct row from the written files.

    The rows are sorted by class and productid over all partitions, and persisted. The caller must unpersist them.

    Raises (when the rows are used):
        VerificationError: a file differs from its SHA-256 in `parts`.
    """
    partitions = int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    return (
        map_parts(spark, folder, parts, _hash_rows, _ROWS)
        .repartitionByRange(partitions, "prdtypecode", "productid")
        .sortWithinPartitions("prdtypecode", "productid", "hash")
        .persist()
    )


def _hash_rows(path: Path) -> Iterator[pa.RecordBatch]:
    rows = count_rows(path)
    hashes = pa.array(rows.hashes.tolist(), pa.binary())
    yield pa.RecordBatch.from_arrays([rows.codes, rows.productids, hashes, rows.copies], _ROWS_ARROW)


def identify(rows: DataFrame) -> DatasetIdentity:
    """Compute the identity of a dataset from the rows that `read_rows` has returned."""
    placed = rows.withColumn("partition", f.spark_partition_id())
    counts = (
        placed.groupBy("prdtypecode", "partition")
        .agg(f.count("*").alias("products"), f.sum("copies").alias("rows"))
        .toArrow()
        .sort_by([("prdtypecode", "ascending"), ("partition", "ascending")])
    )
    codes, partitions, products, copies = (counts[name].to_numpy() for name in counts.column_names)
    classes, starts = np.unique(codes, return_index=True)
    if not len(classes):
        return DatasetIdentity(classes=())
    sizes, totals = np.add.reduceat(products, starts), np.add.reduceat(copies, starts)
    ahead = (
        np.cumsum(products) - products - np.repeat(np.cumsum(sizes) - sizes, np.diff([*starts, len(codes)]))
    )
    firsts = dict(zip(zip(partitions.tolist(), codes.tolist(), strict=True), ahead.tolist(), strict=True))
    found: dict[int, list[Subtree]] = {code: [] for code in classes.tolist()}
    for row in _subtrees(placed, firsts).toArrow().to_pylist():
        found[row["prdtypecode"]].append(Subtree(row["level"], row["place"], row["hash"]))
    return DatasetIdentity(
        classes=tuple(
            ClassIdentity(prdtypecode=code, products=size, rows=total, root=_root(found[code], size))
            for code, size, total in zip(classes.tolist(), sizes.tolist(), totals.tolist(), strict=True)
        )
    )


def _subtrees(placed: DataFrame, firsts: dict[tuple[int, int], int]) -> DataFrame:
    """Compute the subtrees of each partition. `firsts` is the position of its first leaf in a class, by (partition, class)."""

    def hash_leaves(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with carry_errors():
            ahead = dict(firsts)
            for batch in batches:
                codes = batch["prdtypecode"].to_numpy()
                bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
                for begin, end in pairwise(bounds):
                    if begin == end:
                        continue
                    key = (batch["partition"][begin].as_py(), int(codes[begin]))
                    hashes, copies = (batch[name][begin:end].to_pylist() for name in ("hash", "copies"))
                    subtrees = subtrees_of(map(leaf_of, hashes, copies), ahead[key])
                    ahead[key] += end - begin
                    rows = [{"prdtypecode": key[1], **subtree._asdict()} for subtree in subtrees]
                    yield pa.RecordBatch.from_pylist(rows, schema=_SUBTREES_ARROW)

    return placed.mapInArrow(hash_leaves, _SUBTREES)


def _root(subtrees: Sequence[Subtree], size: int) -> bytes:
    try:
        return join_subtrees(subtrees, size)
    except ValueError as error:
        raise VerificationError(f"Spark's tasks have not hashed each row exactly once: {error}") from error
