"""Write a dataset as a folder of parquet files. A task reads the texts of its products, repeats the rows, and writes a file.

File number k holds the products whose newest history entry has an id from k * n to (k + 1) * n - 1, in the order of these ids, where
n is `entries_per_part`. So neither the number of workers nor the order of the tasks changes the bytes of a file. A task that Spark
runs twice writes the same file again. The texts come from PostgreSQL, or from the same file of an earlier dataset.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from db.sql import query
from listeners.datasets.manifest import Part
from listeners.datasets.store import Store
from listeners.snapshot.parquet import PRODUCTS_PER_ROW_GROUP, SCHEMA, distinct_rows, write_balanced
from listeners.snapshot.spark.read import HistoryReader, Source
from listeners.spark.errors import carry_errors
from shared.errors import VerificationError
from shared.hashing import sha256_of

logger = structlog.get_logger()

_WRITTEN: Final = "number long, name string, products long, rows long, size long, sha256 string"
_WRITTEN_ARROW: Final = pa.schema(
    [
        ("number", pa.int64()),
        ("name", pa.string()),
        ("products", pa.int64()),
        ("rows", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class EarlierFolder:
    """The dataset of an earlier batch: its folder, and those of its files that no later history entry can have changed."""

    folder: Store
    parts: dict[int, Part]


@dataclass(frozen=True)
class PartWriter:
    """Writes files of a dataset on a worker. Spark pickles this object with the code of a task."""

    source: Source
    folder: Store
    entries_per_part: int

    def write(self, number: int, products: pa.Table, texts: pa.Table) -> Part:
        """Write the file `number`.

        Args:
            number: the number of the file.
            products: history_id, productid, prdtypecode and copies of the file's products, ascending by history_id.
            texts: the columns of a dataset but for prdtypecode, a row for each row of `products`, in the same order.
        """
        rows = texts.append_column("prdtypecode", products["prdtypecode"]).select(SCHEMA.names).cast(SCHEMA)
        steps = range(0, rows.num_rows, PRODUCTS_PER_ROW_GROUP)
        copies = products["copies"].to_numpy()
        name = f"part-{number:06d}.parquet"
        with self.folder.writing(name) as path:
            write_balanced(
                path, (rows.slice(step, PRODUCTS_PER_ROW_GROUP).combine_chunks() for step in steps), copies
            )
            return self._part(number, name, rows.num_rows, int(copies.sum()), path)

    def _part(self, number: int, name: str, products: int, rows: int, path: Path) -> Part:
        size, sha256 = path.stat().st_size, sha256_of(path)
        return Part(number=number, name=name, products=products, rows=rows, size=size, sha256=sha256)

    def texts_in_postgresql(self, reader: HistoryReader, number: int, products: pa.Table) -> pa.Table:
        """Read the texts of the products of a file from PostgreSQL, in the order of `products`."""
        after = number * self.entries_per_part - 1
        batches = reader.read(query("snapshot/entry_texts"), after, after + self.entries_per_part)
        texts = pa.Table.from_batches(batches) if batches else _NO_TEXTS
        rows = _positions(texts["history_id"].to_numpy(), products["history_id"].to_numpy())
        if rows is None:
            raise VerificationError(
                "PostgreSQL no longer returns history entries that it has returned before"
            )
        return texts.take(pa.array(rows))


_NO_TEXTS: Final = pa.table({"history_id": pa.array([], pa.int64())})


@dataclass(frozen=True)
class _EarlierTexts:
    earlier: EarlierFolder

    def read(self, number: int, products: pa.Table) -> pa.Table | None:
        """Read the texts of the products of a file from the earlier dataset. Return None if it lacks one, or was changed."""
        part = self.earlier.parts[number]
        try:
            with self.earlier.folder.reading(part.name) as path:
                if sha256_of(path) != part.sha256:
                    return None
                texts = pa.concat_tables(distinct_rows(path))
        except OSError:
            return None
        ids = texts["productid"].to_numpy()
        order = np.argsort(ids)
        rows = _positions(ids[order], products["productid"].to_numpy())
        return None if rows is None else texts.drop_columns("prdtypecode").take(pa.array(order[rows]))


def _positions(known: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.intp] | None:
    """Return the position of each of `wanted` in `known`, which is sorted, or None if one of them is missing."""
    if not len(known):
        return None
    rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return rows if np.array_equal(known[rows], wanted) else None


def write_parts(products: DataFrame, writer: PartWriter, earlier: EarlierFolder | None) -> list[Part]:
    """Write all files of a dataset, and return them, ascending by number.

    Args:
        products: history_id, productid, prdtypecode and copies of each training product.
        writer: says where the files go.
        earlier: the dataset of an earlier batch, from which files are read instead of from PostgreSQL, or None.
    """
    numbered = products.withColumn("number", f.expr(f"history_id div {writer.entries_per_part}"))
    written: list[Part] = []
    if earlier is not None and earlier.parts:
        tasks = products.sparkSession.sparkContext.defaultParallelism
        known = numbered.where(f.col("number").isin(list(earlier.parts)))
        written = _run(known, tasks, writer, earlier)
        numbered = numbered.where(~f.col("number").isin([part.number for part in written]))
    read = _run(numbered, writer.source.connections, writer, None)
    logger.info("files written", texts_of_earlier_dataset=len(written), texts_of_postgresql=len(read))
    return sorted([*written, *read], key=lambda part: part.number)


def _run(products: DataFrame, tasks: int, writer: PartWriter, earlier: EarlierFolder | None) -> list[Part]:
    """Write files with at most `tasks` tasks at once. Skip the files that the earlier dataset cannot provide."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with carry_errors(), ExitStack() as stack:
            reader = stack.enter_context(writer.source.reader())
            for number, rows in _by_number(batches):
                if earlier is None:
                    texts = writer.texts_in_postgresql(reader, number, rows)
                else:
                    texts = _EarlierTexts(earlier).read(number, rows)
                if texts is not None:
                    part = writer.write(number, rows, texts)
                    yield pa.RecordBatch.from_pylist([part.model_dump()], schema=_WRITTEN_ARROW)

    spread = products.repartitionById(tasks, f.col("number").cast("int")).sortWithinPartitions("history_id")
    return [Part(**row) for row in spread.mapInArrow(write, _WRITTEN).toArrow().to_pylist()]


def _by_number(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows of each file, with its number. Rows of a file are adjacent, but may be in several batches."""
    slices = (piece for batch in batches for piece in _slices(batch))
    for number, pieces in groupby(slices, key=lambda piece: piece[0]):
        yield number, pa.Table.from_batches([rows for _number, rows in pieces])


def _slices(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    numbers = batch["number"].to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for first, end in pairwise(bounds):
        if first < end:
            yield int(numbers[first]), batch.slice(first, end - first)
