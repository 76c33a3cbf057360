"""Decide how many copies of each product the dataset holds, as listeners/snapshot/balance.py does, without sorting all products.

A class of n products needs one copy more of the M mod n products with the smallest (hash key, productid), where M is the size of
the largest class. So one product of each class is the last that gets one copy more. Two small jobs find it: the first counts
the products of each class by the top bits of their key, which tells in which bin the last one lies. The second collects the
products of these bins, one of 4,096 products of a class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from shared.hashing import Salt

_KEY_BITS: Final = 63
_BIN_BITS: Final = 12


@dataclass(frozen=True)
class Balanced:
    """The training products with the number of their copies.

    Attributes:
        products: the columns of the training products, and `copies` (long, at least 1).
        source_rows: number of products of each class, ascending by code.
        rows_per_class: number of rows of every class in the dataset, with all copies; 0 if there is no product.
    """

    products: DataFrame
    source_rows: Mapping[int, int]
    rows_per_class: int


def key_of(column: str, seed: int, salt: Salt) -> Column:
    """Return the 63-bit hash key of a column of integers or texts: the same as `shared.hashing.keys` and `text_keys`."""
    start = (f.lit(seed).cast("long"), f.lit(int(salt)).cast("long"))
    return f.shiftrightunsigned(f.xxhash64(*start, f.col(column)), 1)


def balance(spark: SparkSession, training: DataFrame, seed: int) -> Balanced:
    """Add the number of copies to each training product; `training` has the columns productid and prdtypecode."""
    keyed = training.withColumn("key", key_of("productid", seed, Salt.OVERSAMPLING)).withColumn(
        "bin", f.shiftright("key", _KEY_BITS - _BIN_BITS)
    )
    histogram = (
        keyed.groupBy("prdtypecode", "bin")
        .count()
        .toArrow()
        .sort_by([("prdtypecode", "ascending"), ("bin", "ascending")])
    )
    codes, bins, counts = (histogram[name].to_numpy() for name in ("prdtypecode", "bin", "count"))
    classes, starts = np.unique(codes, return_index=True)
    if not len(classes):
        return Balanced(training.withColumn("copies", f.lit(1).cast("long")), {}, 0)
    sizes = np.add.reduceat(counts, starts)
    largest = int(sizes.max())
    more = largest % sizes  # so many products of the class get one copy more
    # In each class: the bin with the `more`-th product, and how many products of the class lie in the bins before it.
    within = np.cumsum(counts) - np.repeat(np.cumsum(sizes) - sizes, np.diff([*starts, len(codes)]))
    last = [
        int(start + np.searchsorted(within[start:end], need))
        for start, end, need in zip(starts, [*starts[1:], len(codes)], more, strict=True)
    ]
    before = within[last] - counts[last]
    uneven = more > 0
    wanted = _small(spark, prdtypecode=classes[uneven].astype(np.int32), bin=bins[last][uneven])
    candidates = (
        keyed.join(f.broadcast(wanted), ["prdtypecode", "bin"])
        .select("prdtypecode", "key", "productid")
        .toArrow()
    )
    limits = _last_products(
        candidates, dict(zip(classes[uneven].tolist(), (more - before)[uneven].tolist(), strict=True))
    )
    plan = _small(
        spark,
        prdtypecode=classes.astype(np.int32),
        least=largest // sizes,
        last_key=np.array([limits.get(code, (-1, 0))[0] for code in classes.tolist()], np.int64),
        last_productid=np.array([limits.get(code, (-1, 0))[1] for code in classes.tolist()], np.int64),
    )
    is_one_more = "key < last_key or (key = last_key and productid <= last_productid)"
    copies = f.col("least") + f.when(f.expr(is_one_more), 1).otherwise(0)
    products = keyed.join(f.broadcast(plan), "prdtypecode").select(*training.columns, copies.alias("copies"))
    return Balanced(products, dict(zip(classes.tolist(), sizes.tolist(), strict=True)), largest)


def _last_products(candidates: pa.Table, ranks: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """Return, for each class, the (key, productid) of the candidate with the rank in `ranks` (from 1), by (key, productid)."""
    codes, keys, productids = (candidates[name].to_numpy() for name in ("prdtypecode", "key", "productid"))
    order = np.lexsort((productids, keys, codes))
    firsts = np.searchsorted(codes[order], list(ranks))
    chosen = order[firsts + np.array(list(ranks.values()), np.int64) - 1]
    return {
        code: (int(keys[row]), int(productids[row])) for code, row in zip(ranks, chosen.tolist(), strict=True)
    }


def _small(spark: SparkSession, **columns: np.ndarray) -> DataFrame:
    return spark.createDataFrame(pa.table(columns))
