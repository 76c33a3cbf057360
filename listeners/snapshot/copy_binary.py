"""PostgreSQL's binary COPY as Arrow, a whole column at a time.

Binary is what PostgreSQL produces fastest, no text has to be quoted or looked through for line ends, and a null is not an empty
text. The server sends one message for each row (PostgreSQL documentation, "COPY Operations"), so the rows need not be looked
for; a field is its length in 4 bytes, -1 for null, and its bytes ("COPY", binary format).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import VerificationError

Block: TypeAlias = bytes | bytearray | memoryview

_HEADER_BYTES: Final = 19  # signature, flags, and an extension of no bytes
_TRAILER_BYTES: Final = 2  # a row of no columns has as many, of others more
_NUMBERS: Final = {pa.int64(): (">i8", np.int64), pa.int32(): (">i4", np.int32), pa.bool_(): ("?", np.bool_)}
_WIDEST: Final = 8


def tables(blocks: Iterable[Block], schema: pa.Schema, rows_per_table: int) -> Iterator[pa.Table]:
    """Tables of exactly `rows_per_table` rows, the last of fewer; held are the rows of one.

    Args:
        blocks: COPY's messages, as psycopg gives them.
        schema: the columns in order: text (string), bigint (int64), integer (int32) or boolean (bool).
        rows_per_table: at least 1.

    Raises:
        VerificationError: a message is not one row of these columns.
    """
    buffer, ends, header = bytearray(), list[int](), _HEADER_BYTES
    for block in blocks:
        row = block[header:] if header else block
        header = 0
        if len(row) == _TRAILER_BYTES:
            continue
        if len(ends) == rows_per_table:
            yield _table(buffer, ends, schema)
            buffer, ends = bytearray(), []  # Arrow holds on to the old one
        # not kept as it is: psycopg's memoryviews are containers to Python, whose garbage collector would look at each
        buffer += row
        ends.append(len(buffer))
    if ends:
        yield _table(buffer, ends, schema)


def _table(buffer: bytearray, row_ends: Sequence[int], schema: pa.Schema) -> pa.Table:
    rows, fields = len(row_ends), 2 * len(schema)
    ends = np.array(row_ends, np.int64)
    buffer += bytes(_WIDEST)  # so that a null at the end can be read as a number
    bounds = np.empty((rows, fields), np.int64)  # where each field begins and ends
    lengths = _unaligned(buffer, ">i4")
    nulls = []
    position = np.concatenate([[0], ends[:-1]]) + 2  # after the number of fields
    for field in range(0, fields, 2):
        length = lengths[np.minimum(position, len(lengths) - 1)]
        nulls.append(length < 0)
        bounds[:, field] = position + 4
        position = bounds[:, field + 1] = position + 4 + np.maximum(length, 0)
    if not np.array_equal(position, ends):
        raise VerificationError("PostgreSQL's COPY sent messages that are not the rows asked for")
    return pa.Table.from_arrays(
        [
            _column(buffer, bounds, 2 * place, null, field.type)
            for place, (null, field) in enumerate(zip(nulls, schema, strict=True))
        ],
        schema=schema,
    )


def _column(
    buffer: bytearray,
    bounds: npt.NDArray[np.int64],
    place: int,
    null: npt.NDArray[np.bool_],
    kind: pa.DataType,
) -> pa.Array:
    if number := _NUMBERS.get(kind):
        sent, native = number
        return pa.array(_unaligned(buffer, sent)[bounds[:, place]].astype(native), kind, mask=null)
    # every field, and whatever is between two, as one array over the buffer: taking copies the texts in one go
    pieces = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), bounds.size - 1, [None, pa.py_buffer(bounds), pa.py_buffer(buffer)]
    )
    return pieces.take(pa.array(np.arange(place, bounds.size, bounds.shape[1]), mask=null)).cast(kind)


def _unaligned(buffer: bytearray, layout: str) -> npt.NDArray[np.generic]:
    """The number that begins at each byte of the buffer."""
    width = np.dtype(layout).itemsize
    return np.ndarray((len(buffer) - width + 1,), layout, buffer, strides=(1,))
