"""Read a batch's rows from PostgreSQL once, and keep its training rows in a temporary file until the dataset is written.

The dataset repeats rows, and how often it repeats a row is known only after all rows have been read. So the rows are needed
twice: reading them from the temporary file takes a tenth of the time of a second query to PostgreSQL. Memory holds one chunk of
rows, and 20 bytes for each row of the batch. If an earlier dataset holds the first rows, they are read from its file.
"""

from collections.abc import Iterable, Iterator
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
        productids: productids of the training rows in the order of the dataset, shape (training rows,), int64.
        labels: classes of the training rows in the same order, shape (training rows,), int32.
        holdout: productids of the held-out products, without those of an earlier dataset's batch, int64.
        held_out: number of all products that the batch holds out, with those of an earlier dataset's batch.
        path: file with the complete training rows in the same order, as an Arrow stream of chunks.
    """

    productids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    holdout: npt.NDArray[np.int64]
    held_out: int
    path: Path

    def chunks(self) -> Iterator[pa.Table]:
        """Yield the training rows from the file, one chunk at a time, as tables with the columns of `SCHEMA`."""
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])


def read_batch(
    connection: ArrowConnection,
    batch_id: int,
    rows_per_chunk: int,
    path: Path,
    earlier: EarlierDataset | None = None,
) -> BatchRows:
    """Read a batch and write its training rows to `path`, in chunks of `rows_per_chunk` rows; the last chunk may be smaller.

    If an earlier dataset is given, PostgreSQL sends only the rows that were added since that dataset.
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
            # np.array copies the column. A view of the column would keep all columns of the chunk in memory.
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
    """Yield the rows of a batch from PostgreSQL in the order of the dataset, as tables of any size.

    If an earlier dataset is given, yield only the rows that were added since that dataset. The tables have the columns of
    `SCHEMA` and the column `held_out`. Held-out rows come last, and their texts are null.
    """
    if earlier:
        batches = connection.read(query("snapshot/added_rows"), earlier.history_range)
    else:
        batches = connection.read(query("snapshot/batch_rows"), {"batch_id": batch_id})
    for batch in batches:
        # The cast drops the metadata that ADBC adds, and fails if a column cannot have the type in `_READ_SCHEMA`.
        yield pa.Table.from_batches([batch]).cast(_READ_SCHEMA)


def _rechunk(parts: Iterable[pa.Table], rows_per_chunk: int) -> Iterator[pa.Table]:
    """Yield the rows of tables of any size as tables of `rows_per_chunk` rows; the last table may be smaller."""
    kept = SCHEMA.empty_table()
    for part in parts:
        kept = pa.concat_tables([kept, part])
        while kept.num_rows >= rows_per_chunk:
            yield kept.slice(0, rows_per_chunk).combine_chunks()
            kept = kept.slice(rows_per_chunk)
    if kept.num_rows:
        yield kept.combine_chunks()
