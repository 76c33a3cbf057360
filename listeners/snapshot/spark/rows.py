"""Read from the written files what the data card and the drift say about the products."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from listeners.snapshot.drift import DriftSample
from listeners.snapshot.parquet import SCHEMA, distinct_rows
from listeners.snapshot.rows import QUANTILES, TEXTS, RowsSummary, title_hashes
from listeners.snapshot.spark.build import WrittenDataset
from listeners.spark.errors import translate_errors
from listeners.spark.parts import map_parts

_MEASURED: Final = "designation int, description int, imageid long, title long"
_COLUMNS: Final = (
    "productid long, designation string, description string, imageid long, image_path string, prdtypecode int"
)


def collect_sample(spark: SparkSession, written: WrittenDataset, sample: DriftSample) -> None:
    """Give the rows of the products that drift compares to `sample`; there are some thousands at most."""
    wanted = sample.wanted
    if len(wanted):
        with translate_errors():
            sample.collect(_frame(spark, written, partial(_rows_of, wanted), _COLUMNS).toArrow().cast(SCHEMA))


def summarise(spark: SparkSession, written: WrittenDataset) -> RowsSummary:
    """Return what the data card says about the texts of a dataset: the same as `RowsCounter` in one process."""
    rows = _frame(spark, written, _measure, _MEASURED)
    lengths = {name: f.percentile(name, list(QUANTILES)).alias(f"lengths_{name}") for name in TEXTS}
    with translate_errors():
        [found] = (
            rows.agg(
                f.count("*").alias("products"),
                *(f.count_if(f.col(name).isNull()).alias(name) for name in (*TEXTS, "imageid")),
                *lengths.values(),
                (f.count("title") - f.count_distinct("title")).alias("repeated"),
            )
            .toArrow()
            .to_pylist()
        )
    return RowsSummary(
        missing={name: found[name] / max(1, found["products"]) for name in (*TEXTS, "imageid")},
        lengths={name: [int(length) for length in found[f"lengths_{name}"] or []] for name in TEXTS},
        repeated_titles=found["repeated"],
    )


def _frame(
    spark: SparkSession,
    written: WrittenDataset,
    function: Callable[[Path], Iterator[pa.RecordBatch]],
    schema: str,
) -> DataFrame:
    return map_parts(spark, written.folder, written.manifest.parts, function, schema)


def _rows_of(wanted: pa.Array, path: Path) -> Iterator[pa.RecordBatch]:
    for rows in distinct_rows(path):
        yield from rows.filter(pc.is_in(rows["productid"], wanted)).to_batches()


def _measure(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the length of each text, the number of the image, and a hash of the title, for each distinct row."""
    for rows in distinct_rows(path):
        measured = rows.select(["imageid"])
        for name in TEXTS:
            measured = measured.append_column(name, pc.utf8_length(rows[name]))
        measured = measured.append_column("title", title_hashes(rows["designation"]))
        yield from measured.select(["designation", "description", "imageid", "title"]).to_batches()
