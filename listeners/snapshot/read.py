"""Read a batch's training rows from PostgreSQL as Arrow, as a stream: memory does not grow with the number of rows."""

import io
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg.rows import TupleRow

from db.sql import query

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

_BLOCK_BYTES = 1 << 20
_CR = 0x0D


def read_labels(
    connection: psycopg.Connection[TupleRow], batch_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Productid (int64) and prdtypecode (int32) of the batch's training rows, both of shape (rows,), in total order."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(query("training_labels"), {"batch_id": batch_id}).fetchall()
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].astype(np.int32)


def stream_rows(
    connection: psycopg.Connection[TupleRow], batch_id: int, rows_per_chunk: int
) -> Iterator[pa.Table]:
    """The batch's training rows in the order of `read_labels`, in tables of `rows_per_chunk` (the last may be shorter)."""
    with (
        connection.cursor() as cursor,
        cursor.copy(query("copy_training_rows"), {"batch_id": batch_id}) as copy,
    ):
        reader = pyarrow.csv.open_csv(
            _CopyStream(copy),
            read_options=pyarrow.csv.ReadOptions(
                column_names=SCHEMA.names, block_size=_BLOCK_BYTES, use_threads=False
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            # COPY writes null as nothing and an empty text as "": only the former is null
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=SCHEMA,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        yield from _rechunk(reader, rows_per_chunk)


def _rechunk(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Cut at exact row counts: where the network cut the stream must not show in the parquet file."""
    held: list[pa.RecordBatch] = []
    held_rows = 0
    for batch in batches:
        held.append(batch)
        held_rows += batch.num_rows
        while held_rows >= rows:
            table = pa.Table.from_batches(held, SCHEMA)
            yield table.slice(0, rows)
            held = table.slice(rows).to_batches()
            held_rows -= rows
    if held_rows:
        yield pa.Table.from_batches(held, SCHEMA)


class _CopyStream(io.RawIOBase):
    """psycopg's COPY blocks as a file that Arrow can read."""

    def __init__(self, blocks: Iterable[bytes | bytearray | memoryview]) -> None:
        self._blocks = iter(blocks)
        self._held = bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int = _BLOCK_BYTES) -> bytes:
        """At most `size` bytes, none at the end.

        A CR at the end is left for the next read: of a CRLF that two reads share Arrow 25 drops the LF, inside quotes
        too (apache/arrow#51368).
        """
        while len(self._held) <= size and (block := next(self._blocks, None)) is not None:
            self._held += block
        more_follows = len(self._held) > size
        end = size - 1 if more_follows and self._held[size - 1] == _CR else size
        taken = bytes(self._held[:end])
        del self._held[:end]
        return taken
