"""The file of a balanced dataset: written so that a copy costs almost nothing, checked, and read again without its copies.

Copies of a row are adjacent. Each row group holds the copies of one chunk of products, its texts once in a dictionary;
a number that repeats the one before costs less than its place in a dictionary. Plain readers see the full balanced rows, the
file is about as large as that of the distinct rows, and memory is one group's.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import VerificationError

SCHEMA: Final = pa.schema(
    [
        ("productid", pa.int64()),
        ("designation", pa.string()),
        ("description", pa.string()),
        ("imageid", pa.int64()),
        ("image_path", pa.string()),
        ("prdtypecode", pa.int32()),
    ]
)
PRODUCTS_PER_ROW_GROUP: Final = 4096
_IN_DICTIONARIES: Final = tuple(field.name for field in SCHEMA if pa.types.is_string(field.type))
_OPTIONS: Final = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": list(_IN_DICTIONARIES),
    "dictionary_pagesize_limit": 1 << 30,  # never fall back to writing every copy of a text
    "write_statistics": ["productid", "imageid", "prdtypecode"],  # nobody looks for a range of texts
    "store_schema": False,  # plain readers are to see texts, and not how they were handed to the writer
}
_WRITTEN: Final = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in _IN_DICTIONARIES else field
        for field in SCHEMA
    ]
)


def write_balanced(path: Path, chunks: Iterable[pa.Table], copies: npt.NDArray[np.int64]) -> None:
    """Write each row of the chunks as often as `copies` says.

    Args:
        path: the file to write; replaced if it exists.
        chunks: tables of `SCHEMA`, one per row group.
        copies: shape (rows of all chunks,), int64, in the order of the chunks' rows.

    Raises:
        VerificationError: chunks and copies are not of the same length.
    """
    first = 0
    with pq.ParquetWriter(path, _WRITTEN, **_OPTIONS) as writer:
        for chunk in chunks:
            repeat = copies[first : first + chunk.num_rows]
            first += chunk.num_rows
            if len(repeat) != chunk.num_rows:
                break
            rows = pa.array(np.repeat(np.arange(chunk.num_rows, dtype=np.int32), repeat))
            # not held in a name: the last group's copies would stay alive while the next are made
            writer.write_table(_repeated(chunk, rows), row_group_size=max(1, len(rows)))
    if first != len(copies):
        raise VerificationError(f"{len(copies)} numbers of copies for {first} rows or more")


def _repeated(chunk: pa.Table, rows: pa.Int32Array) -> pa.Table:
    """`chunk.take(rows)`, without a copy of any text that goes into a dictionary."""
    columns = []
    for name in SCHEMA.names:
        values = chunk[name].combine_chunks()
        if name in _IN_DICTIONARIES:
            distinct = values.dictionary_encode()
            columns.append(pa.DictionaryArray.from_arrays(distinct.indices.take(rows), distinct.dictionary))
        else:
            columns.append(values.take(rows))
    return pa.Table.from_arrays(columns, schema=_WRITTEN)


def distinct_rows(path: Path) -> Iterator[pa.Table]:
    """Read a file that `write_balanced` wrote, without its copies: a table of `SCHEMA` for each row group."""
    with pq.ParquetFile(path, read_dictionary=list(_IN_DICTIONARIES)) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, use_threads=False)
            yield rows.take(pa.array(_starts(rows))).cast(SCHEMA)


def last_productid(path: Path) -> int:
    """The productid of the last row of such a file."""
    with pq.ParquetFile(path) as file:
        last = _numbers(file, file.num_row_groups - 1)
    return int(last["productid"][-1].as_py())


def verify_balanced(
    path: Path,
    productids: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int32],
    holdout: npt.NDArray[np.int64],
) -> dict[int, int]:
    """Read the file again, a row group at a time, and compare it with what the batch holds; returns the rows of each class.

    Args:
        path: what `write_balanced` wrote.
        productids: shape (rows,), the batch's training rows.
        labels: shape (rows,), their classes.
        holdout: shape (held out,), productids that must not appear.

    Raises:
        VerificationError: a class is larger than another, a row is missing, unknown, mislabelled or held out.
    """
    order = np.argsort(productids)
    known, classes = productids[order], labels[order]
    copies = np.zeros(len(known), np.int64)
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            ids, codes, lengths = _runs(_numbers(file, group))
            places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
            if not np.array_equal(known[places], ids) or not np.array_equal(classes[places], codes):
                raise _not_the_batch(path)
            np.add.at(copies, places, lengths)
    if not copies.all():
        raise _not_the_batch(path)
    if np.isin(known, holdout).any():
        raise VerificationError(f"{path.name} holds products of the holdout")
    return _balanced(path, classes, copies)


def _numbers(file: pq.ParquetFile, group: int) -> pa.Table:
    return file.read_row_group(group, ["productid", "prdtypecode"], use_threads=False)


def _runs(rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Productid, class and length of each run of equal rows."""
    starts = _starts(rows)
    ids, codes = rows["productid"].to_numpy()[starts], rows["prdtypecode"].to_numpy()[starts]
    return ids, codes, np.diff(starts, append=rows.num_rows)


def _starts(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Where another product or class begins."""
    ids, codes = rows["productid"].to_numpy(), rows["prdtypecode"].to_numpy()
    return np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]) | (codes[1:] != codes[:-1])])


def _balanced(path: Path, classes: npt.NDArray[np.int32], copies: npt.NDArray[np.int64]) -> dict[int, int]:
    codes, class_of = np.unique(classes, return_inverse=True)
    counts = np.bincount(class_of, copies).astype(np.int64)
    if len(set(counts.tolist())) > 1:
        raise VerificationError(
            f"{path.name} is not balanced: classes of {counts.min()} to {counts.max()} rows"
        )
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


def _not_the_batch(path: Path) -> VerificationError:
    return VerificationError(f"{path.name} does not hold exactly the training rows of its batch")
