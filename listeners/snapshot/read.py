"""Read a batch from PostgreSQL once, and keep its training rows in a file beside the dataset.

How many copies a row gets is known when all rows have been seen. A file of them costs a tenth of asking PostgreSQL again; what is
held in memory is one chunk, and 20 bytes for each row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.rows import TupleRow

from db.sql import query
from listeners.snapshot.copy_binary import tables

SCHEMA = pa.schema(
    [
        ("productid", pa.int64()),
        ("designation", pa.string()),
        ("description", pa.string()),
        ("imageid", pa.int64()),
        ("image_path", pa.string()),
        ("prdtypecode", pa.int32()),
    ]
)
_SENT = SCHEMA.append(pa.field("held_out", pa.bool_()))


@dataclass(frozen=True)
class BatchRows:
    """A batch's rows: the numbers in memory, the rest in a file.

    Attributes:
        productids: shape (training rows,), int64, in total order.
        labels: shape (training rows,), int32, their classes.
        holdout: shape (held out,), int64, productids.
        path: the training rows in the same order, as an Arrow stream.
    """

    productids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    holdout: npt.NDArray[np.int64]
    path: Path

    def chunks(self) -> Iterator[pa.Table]:
        """The training rows as they were read: tables of `SCHEMA`, cut where the batch alone decides."""
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])


def read_batch(
    connection: psycopg.Connection[TupleRow], batch_id: int, rows_per_chunk: int, path: Path
) -> BatchRows:
    """Read the batch and write its training rows to `path`. A chunk is `rows_per_chunk` rows less those held out of them."""
    productids, labels, holdout = [], [], []
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for rows in stream_rows(connection, batch_id, rows_per_chunk):
            holdout.append(rows.filter(rows["held_out"])["productid"].to_numpy())
            training = rows.filter(pc.invert(rows["held_out"])).select(SCHEMA.names)
            productids.append(training["productid"].to_numpy())
            labels.append(training["prdtypecode"].to_numpy())
            if training.num_rows:
                stream.write_table(training)
    return BatchRows(
        productids=np.concatenate([np.empty(0, np.int64), *productids]),
        labels=np.concatenate([np.empty(0, np.int32), *labels]),
        holdout=np.concatenate([np.empty(0, np.int64), *holdout]),
        path=path,
    )


def stream_rows(
    connection: psycopg.Connection[TupleRow], batch_id: int, rows_per_chunk: int
) -> Iterator[pa.Table]:
    """The batch's rows in total order, in tables of `rows_per_chunk`: `SCHEMA`, and whether the row is held out."""
    with connection.cursor() as cursor, cursor.copy(query("copy_batch"), {"batch_id": batch_id}) as copy:
        yield from tables(copy, _SENT, rows_per_chunk)
