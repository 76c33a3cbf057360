"""Read the products of a dataset from its files, and count the words of their titles, with many tasks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  Spark's own name for it

from listeners.datasets.manifest import Part
from listeners.datasets.store import Store
from listeners.spark.parts import map_parts
from listeners.training.drift import count_words
from listeners.training.features import distinct_products
from listeners.training.text import TEXT_COLUMNS

_COLUMNS: Final = ("productid", *TEXT_COLUMNS, "prdtypecode")
_PRODUCTS: Final = "productid long, designation string, description string, prdtypecode int, copies long"


def read_products(spark: SparkSession, folder: Store, parts: Sequence[Part]) -> DataFrame:
    """Return each product of a dataset once: productid, designation, description, prdtypecode and copies.

    All copies of a product are in the same file, so no rows are exchanged between tasks.

    Raises (when the frame is used):
        VerificationError: a file is missing, or differs from its SHA-256 in `parts`.
    """
    return map_parts(spark, folder, parts, _distinct, _PRODUCTS)


def _distinct(path: Path) -> Iterator[pa.RecordBatch]:
    rows, copies = distinct_products(
        pq.read_table(path, columns=list(_COLUMNS), read_dictionary=list(TEXT_COLUMNS))
    )
    plain = rows.select(_COLUMNS)
    for name in TEXT_COLUMNS:
        plain = plain.set_column(plain.column_names.index(name), name, plain[name].cast(pa.string()))
    yield from plain.append_column("copies", pa.array(copies.astype(np.int64))).to_batches()


def count_earlier_words(
    products: DataFrame, new: npt.NDArray[np.int64], words: AbstractSet[str]
) -> Mapping[str, int]:
    """Return in how many titles of products that are not `new` each of these words occurs."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found: Counter[str] = Counter()
        for batch in batches:
            found.update(count_words(batch.column("designation").to_pylist(), words))
        yield pa.RecordBatch.from_arrays(
            [pa.array(list(found), pa.string()), pa.array(list(found.values()), pa.int64())],
            ["word", "titles"],
        )

    earlier = products.filter(~F.col("productid").isin(new.tolist())).select("designation")
    counted = (
        earlier.mapInArrow(count, "word string, titles long")
        .groupBy("word")
        .agg(F.sum("titles").alias("titles"))
    )
    table = counted.toArrow()
    return dict(zip(table["word"].to_pylist(), table["titles"].to_pylist(), strict=True))
