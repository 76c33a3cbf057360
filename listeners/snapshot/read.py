"""Read a batch's rows from PostgreSQL once, and keep its training rows in a file beside the dataset.

How many copies a row gets is known only when all rows have been seen. Reading the file again costs a tenth of asking PostgreSQL
again. Memory holds one chunk of rows, and 20 bytes for each row. Rows that an earlier dataset holds are read from its file.
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

_READ = SCHEMA.append(pa.field("held_out", pa.bool_()))


@dataclass(frozen=True)
class BatchRows:
    """A batch's rows: the numbers in memory, the rest in a file.

    Attributes:
        productids: shape (training rows,), int64, in total order.
        labels: shape (training rows,), int32, their classes.
        holdout: shape (held out,), int64, productids of those that PostgreSQL sent.
        held_out: how many products the batch holds out.
        path: the training rows in the same order, as an Arrow stream of chunks.
    """

    productids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    holdout: npt.NDArray[np.int64]
    held_out: int
    path: Path

    def chunks(self) -> Iterator[pa.Table]:
        """The training rows in tables of `rows_per_chunk`, with the columns of `SCHEMA`."""
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
    """Read a batch and write its training rows to `path`, in chunks of `rows_per_chunk` rows, the last of fewer.

    With an earlier dataset, PostgreSQL sends only the rows that came since.
    """
    productids, labels, holdout = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]

    def training() -> Iterator[pa.Table]:
        if earlier:
            yield from earlier.rows()
        for rows in stream_rows(connection, batch_id, earlier):
            holdout.append(np.array(rows.filter(rows["held_out"])["productid"]))
            yield rows.filter(pc.invert(rows["held_out"])).select(SCHEMA.names)

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for chunk in _cut(training(), rows_per_chunk):
            stream.write_table(chunk)
            # np.array copies: a view would keep all columns of the batch that ADBC sent in memory
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
    """Yield the batch's rows, or those since an earlier dataset, in total order and tables of any size.

    Their columns are those of `SCHEMA` and `held_out`. Held-out rows come last, without their texts.
    """
    if earlier:
        batches = connection.read(query("snapshot/added_rows"), earlier.between)
    else:
        batches = connection.read(query("snapshot/batch_rows"), {"batch_id": batch_id})
    for batch in batches:
        # the cast drops ADBC's metadata, and fails on any other type
        yield pa.Table.from_batches([batch]).cast(_READ)


def _cut(parts: Iterable[pa.Table], rows_per_chunk: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows_per_chunk`, each in one piece, the last of fewer."""
    kept = SCHEMA.empty_table()
    for part in parts:
        kept = pa.concat_tables([kept, part])
        while kept.num_rows >= rows_per_chunk:
            yield kept.slice(0, rows_per_chunk).combine_chunks()
            kept = kept.slice(rows_per_chunk)
    if kept.num_rows:
        yield kept.combine_chunks()
