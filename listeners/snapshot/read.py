"""Read a batch's rows from PostgreSQL once, and keep its training rows in a temporary file until the dataset is written.

To balance the classes, the dataset repeats rows. How often it repeats a row is known only after all rows have been read, so the
rows are needed twice. The second time they come from the temporary file, in a tenth of the time of a second query. Memory holds
one chunk of rows, and 20 bytes for each row of the batch. If the dataset of an earlier batch already holds the first rows of
this batch, these rows are read from the file of that dataset instead of from PostgreSQL.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from db.connect import ArrowConnection
from db.sql import query
from listeners.snapshot.earlier import EarlierDataset
from listeners.snapshot.parquet import SCHEMA

_READ_SCHEMA = SCHEMA.append(pa.field("held_out", pa.bool_()))


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch: productids and classes in memory, complete training rows in a file.

    Attributes:
        productids: productid of each training row, in the order of the dataset, int64.
        labels: product class of each training row, in the order of `productids`, int32.
        holdout: productids of the held-out products, int64. If the rows of an earlier dataset were reused, these are only the
            products that were held out since that dataset.
        held_out: number of all held-out products of the batch, including those that the earlier dataset already counted.
        path: file with the complete training rows, in the order of `productids`, as an Arrow stream of chunks.
    """

    productids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    holdout: npt.NDArray[np.int64]
    held_out: int
    path: Path

    def chunks(self) -> Iterator[pa.Table]:
        """Yield the training rows from the file `path`, one chunk at a time, as tables with the columns of `SCHEMA`."""
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])


def read_batch(
    connection: ArrowConnection,
    batch_id: int,
    rows_per_chunk: int,
    path: Path,
    earlier: EarlierDataset | None = None,
    *,
    collect: Callable[[pa.Table], None] | None = None,
) -> BatchRows:
    """Read a batch and write its training rows to `path`, in chunks of `rows_per_chunk` rows; the last chunk may be smaller.

    If an earlier dataset is given, its file provides the first rows, and PostgreSQL sends only the rows that were added later. If
    `collect` is given, it gets each chunk of training rows, so that nobody needs to read them again.
    """
    productids, labels, holdout = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]

    def training_rows() -> Iterator[pa.Table]:
        if earlier:
            yield from earlier.rows()
        for rows in stream_rows(connection, batch_id, earlier):
            holdout.append(np.array(rows.filter(rows["held_out"])["productid"]))
            yield rows.filter(pc.invert(rows["held_out"])).select(SCHEMA.names)

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for chunk in _rechunk(training_rows(), rows_per_chunk):
            stream.write_table(chunk)
            if collect is not None:
                collect(chunk)
            # np.array copies the column. An array that shares the column's memory would keep the whole chunk in memory.
            productids.append(np.array(chunk["productid"]))
            labels.append(np.array(chunk["prdtypecode"]))
    held_out = np.concatenate(holdout)
    return BatchRows(
        productids=np.concatenate(productids),
        labels=np.concatenate(labels),
        holdout=held_out,
        held_out=len(held_out) + (earlier.held_out if earlier else 0),
        path=path,
    )


def stream_rows(
    connection: ArrowConnection, batch_id: int, earlier: EarlierDataset | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of a batch from PostgreSQL, in the order in which the dataset stores them, as tables of any size.

    If an earlier dataset is given, yield only the rows that were added since that dataset. The tables have the columns of
    `SCHEMA` and the column `held_out`. Rows of held-out products come last, and their designation and description are null.
    """
    if earlier:
        batches = connection.read(query("snapshot/added_rows"), earlier.history_range)
    else:
        batches = connection.read(query("snapshot/batch_rows"), {"batch_id": batch_id})
    for batch in batches:
        # The cast drops the metadata that ADBC adds, and fails if a column cannot have the type in `_READ_SCHEMA`.
        yield pa.Table.from_batches([batch]).cast(_READ_SCHEMA)


def _rechunk(parts: Iterable[pa.Table], rows_per_chunk: int) -> Iterator[pa.Table]:
    """Yield the rows of `parts`, which are tables of any size, as tables of `rows_per_chunk` rows (the last may be smaller)."""
    kept = SCHEMA.empty_table()
    for part in parts:
        kept = pa.concat_tables([kept, part])
        while kept.num_rows >= rows_per_chunk:
            yield kept.slice(0, rows_per_chunk).combine_chunks()
            kept = kept.slice(rows_per_chunk)
    if kept.num_rows:
        yield kept.combine_chunks()
