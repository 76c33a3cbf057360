"""Write, verify and read the parquet file of a balanced dataset, which repeats rows so that all classes have equal size.

The repetition hardly makes the file larger: the copies of a row are adjacent, and each row group stores each text only once, in
a dictionary. Numbers get no dictionary, because repeated numbers are compressed well enough without one. Any parquet reader
sees all rows with their copies; `distinct_rows` reads each row once. Only one row group is in memory at a time.
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
_TEXT_COLUMNS: Final = tuple(field.name for field in SCHEMA if pa.types.is_string(field.type))
_OPTIONS: Final = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": list(_TEXT_COLUMNS),
    # If the dictionary of a text column were larger than this limit (bytes), the writer would stop using it, and would write
    # each copy of a text in full.
    "dictionary_pagesize_limit": 1 << 30,
    # Write the minimum and maximum of these columns only. For the text columns, they would help no reader, because no reader
    # selects a range of texts.
    "write_statistics": ["productid", "imageid", "prdtypecode"],
    # Do not store Arrow's schema in the file. With this schema, Arrow would read the text columns as dictionary arrays, not as
    # string arrays.
    "store_schema": False,
}
_WRITE_SCHEMA: Final = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in _TEXT_COLUMNS else field
        for field in SCHEMA
    ]
)


def write_balanced(path: Path, chunks: Iterable[pa.Table], copies: npt.NDArray[np.int64]) -> None:
    """Write a balanced parquet file. Each row of `chunks` is written as many times as its element of `copies` says.

    Args:
        path: the file to write; an existing file is replaced.
        chunks: tables of `SCHEMA` with distinct rows; each table becomes one row group, with all copies of its rows.
        copies: number of times to write each row, in the order of the chunks' rows, shape (rows of all chunks,), int64.

    Raises:
        VerificationError: the chunks have more or fewer rows than `copies` has elements.
    """
    first = 0
    with pq.ParquetWriter(path, _WRITE_SCHEMA, **_OPTIONS) as writer:
        for chunk in chunks:
            repeat = copies[first : first + chunk.num_rows]
            first += chunk.num_rows
            if len(repeat) != chunk.num_rows:
                break
            rows = pa.array(np.repeat(np.arange(chunk.num_rows, dtype=np.int32), repeat))
            # Do not store the repeated rows in a variable: it would keep them in memory while the next row group is made.
            writer.write_table(_repeat_rows(chunk, rows), row_group_size=max(1, len(rows)))
    if first != len(copies):
        raise VerificationError(
            f"{path.name}: {len(copies)} rows were expected, but {first} or more were read"
        )


def _repeat_rows(chunk: pa.Table, rows: pa.Int32Array) -> pa.Table:
    """Return the rows of `chunk` at the positions `rows`, which may repeat. Store each distinct text once, in a dictionary."""
    columns = []
    for name in SCHEMA.names:
        values = chunk[name].combine_chunks()
        if name in _TEXT_COLUMNS:
            distinct = values.dictionary_encode()
            columns.append(pa.DictionaryArray.from_arrays(distinct.indices.take(rows), distinct.dictionary))
        else:
            columns.append(values.take(rows))
    return pa.Table.from_arrays(columns, schema=_WRITE_SCHEMA)


def distinct_rows(path: Path) -> Iterator[pa.Table]:
    """Yield one table of `SCHEMA` for each row group of a balanced file. The table has each distinct row only once."""
    with pq.ParquetFile(path, read_dictionary=list(_TEXT_COLUMNS)) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, use_threads=False)
            yield rows.take(pa.array(_run_starts(rows))).cast(SCHEMA)


def last_productid(path: Path) -> int:
    """Return the productid in the last row of the parquet file of a balanced dataset."""
    with pq.ParquetFile(path) as file:
        last = _read_ids(file, file.num_row_groups - 1)
    return int(last["productid"][-1].as_py())


def verify_balanced(
    path: Path,
    productids: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int32],
    holdout: npt.NDArray[np.int64],
) -> dict[int, int]:
    """Check that a balanced file holds the training rows of its batch and no others, and return the sizes of its classes.

    The returned dictionary maps each class to its number of rows, with all copies. Only one row group is in memory at a time.

    Args:
        path: a file that `write_balanced` wrote.
        productids: productids of the training rows of the file's batch, shape (rows,).
        labels: classes (prdtypecode) of the same training rows, in the same order, shape (rows,).
        holdout: productids that must not occur in the file, shape (held-out products,).

    Raises:
        VerificationError: the classes differ in size; or the file lacks one of `productids`; or a product in the file is not
            one of `productids`, or has another class than in `labels`, or is one of `holdout`.
    """
    order = np.argsort(productids)
    known, classes = productids[order], labels[order]
    copies = np.zeros(len(known), np.int64)
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            ids, codes, lengths = _runs(_read_ids(file, group))
            positions = np.minimum(np.searchsorted(known, ids), len(known) - 1)
            if not np.array_equal(known[positions], ids) or not np.array_equal(classes[positions], codes):
                raise _wrong_rows(path)
            np.add.at(copies, positions, lengths)
    if not copies.all():
        raise _wrong_rows(path)
    if np.isin(known, holdout).any():
        raise VerificationError(f"{path.name} contains products of the holdout")
    return _class_sizes(path, classes, copies)


def _read_ids(file: pq.ParquetFile, group: int) -> pa.Table:
    return file.read_row_group(group, ["productid", "prdtypecode"], use_threads=False)


def _runs(rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Group adjacent rows with equal productid and class. Return each group's productid, class and length."""
    starts = _run_starts(rows)
    ids, codes = rows["productid"].to_numpy()[starts], rows["prdtypecode"].to_numpy()[starts]
    return ids, codes, np.diff(starts, append=rows.num_rows)


def _run_starts(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Return the position of the first row of each group of adjacent rows with equal productid and class."""
    ids, codes = rows["productid"].to_numpy(), rows["prdtypecode"].to_numpy()
    return np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]) | (codes[1:] != codes[:-1])])


def _class_sizes(path: Path, classes: npt.NDArray[np.int32], copies: npt.NDArray[np.int64]) -> dict[int, int]:
    codes, class_of = np.unique(classes, return_inverse=True)
    counts = np.bincount(class_of, copies).astype(np.int64)
    if len(set(counts.tolist())) > 1:
        raise VerificationError(
            f"{path.name} is not balanced: the smallest class has {counts.min()} rows, the largest has {counts.max()}"
        )
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


def _wrong_rows(path: Path) -> VerificationError:
    return VerificationError(f"{path.name} differs from its batch's training rows in products or classes")
