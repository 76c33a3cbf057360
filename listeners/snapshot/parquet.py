"""Write the balanced dataset so that a copy costs almost nothing, and check what was written.

Copies of a row are adjacent. Each row group holds the copies of a fixed number of products, its texts once in a dictionary:
plain readers see the full balanced rows, the file is about as large as that of the distinct rows, and memory is one group's.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from listeners.snapshot.read import SCHEMA
from shared.errors import VerificationError

PRODUCTS_PER_ROW_GROUP = 4096
_DICTIONARY_BYTES = 1 << 30  # never fall back to writing every copy of a text
_ZSTD_LEVEL = 1


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
    with pq.ParquetWriter(
        path,
        SCHEMA,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
    ) as writer:
        for chunk in chunks:
            repeat = copies[first : first + chunk.num_rows]
            first += chunk.num_rows
            if len(repeat) != chunk.num_rows:
                break
            rows = pa.array(np.repeat(np.arange(chunk.num_rows), repeat))
            # not held in a name: the last group's copies would stay alive while the next are made
            writer.write_table(chunk.take(rows), row_group_size=max(1, len(rows)))
    if first != len(copies):
        raise VerificationError(
            f"the batch changed while it was read: {len(copies)} labels, {first} rows or more"
        )


def verify_balanced(
    path: Path,
    productids: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int32],
    holdout: npt.NDArray[np.int64],
) -> dict[int, int]:
    """Read the file again and compare it with what the batch holds; returns the rows of each class.

    Args:
        path: what `write_balanced` wrote.
        productids: shape (rows,), the batch's training rows.
        labels: shape (rows,), their classes.
        holdout: shape (held out,), productids that must not appear.

    Raises:
        VerificationError: a class is larger than another, a row is missing, unknown, mislabelled or held out.
    """
    written = pq.read_table(path, columns=["productid", "prdtypecode"])
    ids, classes = written["productid"].to_numpy(), written["prdtypecode"].to_numpy()
    if np.isin(ids, holdout).any():
        raise VerificationError(f"{path.name} holds products of the holdout")
    distinct, first = np.unique(ids, return_index=True)
    order = np.argsort(productids)
    if not np.array_equal(distinct, productids[order]) or not np.array_equal(classes[first], labels[order]):
        raise VerificationError(f"{path.name} does not hold exactly the training rows of its batch")
    codes, counts = np.unique(classes, return_counts=True)
    if len(set(counts.tolist())) > 1:
        raise VerificationError(
            f"{path.name} is not balanced: classes of {counts.min()} to {counts.max()} rows"
        )
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))
