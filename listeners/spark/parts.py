"""Read the files of a dataset with many tasks, each file in one task, and check its SHA-256."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from listeners.datasets.manifest import Part
from listeners.datasets.store import Store
from listeners.spark.errors import carry_errors
from shared.errors import VerificationError
from shared.hashing import sha256_of


def map_parts(
    spark: SparkSession,
    folder: Store,
    parts: Sequence[Part],
    function: Callable[[Path], Iterator[pa.RecordBatch]],
    schema: str,
) -> DataFrame:
    """Return what a function returns for the files of a dataset, as one frame with this schema. Nothing is read until it is used.

    Raises (when the frame is used):
        VerificationError: a file is missing, or differs from its SHA-256 in `parts`.
    """
    tasks = max(1, min(len(parts), 4 * spark.sparkContext.defaultParallelism))

    def read(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with carry_errors():
            for part in (parts[number] for batch in numbers for number in batch["id"].to_pylist()):
                yield from _read_part(folder, part, function)

    return spark.range(0, len(parts), 1, tasks).mapInArrow(read, schema)


def _read_part(
    folder: Store, part: Part, function: Callable[[Path], Iterator[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    try:
        with folder.reading(part.name) as path:
            if (found := sha256_of(path)) != part.sha256:
                raise VerificationError(
                    f"{part.name} in {folder.uri} has SHA-256 {found}, but {part.sha256} was written"
                )
            yield from function(path)
    except FileNotFoundError as error:
        folder.require_folder()
        raise VerificationError(f"{part.name} is missing in {folder.uri}") from error
