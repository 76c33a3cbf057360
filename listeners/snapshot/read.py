"""Read a batch's rows from PostgreSQL once, and keep its training rows in a file beside the dataset.

How many copies a row gets is known when all rows have been seen. A file of them costs a tenth of asking PostgreSQL again; what is
held in memory is one chunk, and 20 bytes for each row. Rows that an earlier dataset holds are not read again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.rows import TupleRow

from db.sql import query
from listeners.snapshot.copy_binary import tables
from listeners.snapshot.earlier import EarlierDataset
from listeners.snapshot.parquet import SCHEMA

_SENT = SCHEMA.append(pa.field("held_out", pa.bool_()))


@dataclass(frozen=True)
class BatchRows:
    """A batch's rows: the numbers in memory, the rest in files.

    Attributes:
        productids: shape (training rows,), int64, in total order.
        labels: shape (training rows,), int32, their classes.
        holdout: shape (held out,), int64, productids of those that were read.
        path: the training rows that were read in the same order, as an Arrow stream.
        rows_per_chunk: how many rows each chunk holds, except the last.
        earlier: the dataset that holds the rows before them.
    """

    productids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    holdout: npt.NDArray[np.int64]
    path: Path
    rows_per_chunk: int
    earlier: EarlierDataset | None = None

    @property
    def held_out(self) -> int:
        """How many products the batch holds out."""
        return len(self.holdout) + (self.earlier.held_out if self.earlier else 0)

    def chunks(self) -> Iterator[pa.Table]:
        """The training rows in tables of `rows_per_chunk`, with the columns of `SCHEMA`."""
        if self.earlier:
            yield from self.earlier.full_groups(self.rows_per_chunk)
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])


def read_batch(
    connection: psycopg.Connection[TupleRow],
    batch_id: int,
    rows_per_chunk: int,
    path: Path,
    earlier: EarlierDataset | None = None,
) -> BatchRows:
    """Read the batch, or what it holds more than an earlier dataset, and write its training rows to `path`."""
    productids, labels, holdout = [], [], []

    def training() -> Iterator[pa.Table]:
        for rows in stream_rows(connection, batch_id, rows_per_chunk, earlier):
            holdout.append(rows.filter(rows["held_out"])["productid"].to_numpy())
            kept = rows.filter(pc.invert(rows["held_out"])).select(SCHEMA.names)
            productids.append(kept["productid"].to_numpy())
            labels.append(kept["prdtypecode"].to_numpy())
            yield kept

    before: Iterable[pa.Table] = []
    if earlier:
        productids.append(earlier.productids)
        labels.append(earlier.labels)
        before = (rows.cast(SCHEMA) for rows in earlier.remainder(rows_per_chunk))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for chunk in _cut(chain(before, training()), rows_per_chunk):
            stream.write_table(chunk)
    return BatchRows(
        productids=np.concatenate([np.empty(0, np.int64), *productids]),
        labels=np.concatenate([np.empty(0, np.int32), *labels]),
        holdout=np.concatenate([np.empty(0, np.int64), *holdout]),
        path=path,
        rows_per_chunk=rows_per_chunk,
        earlier=earlier,
    )


def stream_rows(
    connection: psycopg.Connection[TupleRow],
    batch_id: int,
    rows_per_chunk: int,
    earlier: EarlierDataset | None = None,
) -> Iterator[pa.Table]:
    """The batch's rows, or those since an earlier dataset, in total order and tables of `rows_per_chunk`.

    Their columns are those of `SCHEMA` and whether the row is held out. Those that are come last, without their texts.
    """
    name, parameters = (
        ("snapshot/copy_additions", dict(earlier.between))
        if earlier
        else ("snapshot/copy_batch", {"batch_id": batch_id})
    )
    with connection.cursor() as cursor, cursor.copy(query(name), parameters) as copy:
        yield from tables(copy, _SENT, rows_per_chunk)


def _cut(parts: Iterable[pa.Table], rows_per_chunk: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows_per_chunk`, each in one piece, the last of fewer."""
    kept = SCHEMA.empty_table()
    for part in parts:
        kept = pa.concat_tables([kept, part]) if kept.num_rows else part
        while kept.num_rows >= rows_per_chunk:
            yield kept.slice(0, rows_per_chunk).combine_chunks()
            kept = kept.slice(rows_per_chunk)
    if kept.num_rows:
        yield kept.combine_chunks()
