"""Read the file of a correction, which updates, deletes or inserts products. Check it as far as possible without the database.

Each row of the file names one product in the column `productid`. The column `operation` is update, delete or insert. Without
this column, every row is an update.

An update changes only the columns that the file has. An empty field sets the product's value to null.

If an insertion names a product that was deleted, the product is restored with the values of the file. If the file has no value
for a column, the product gets the value that it had before its deletion.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from db.source.checked_file import CheckedFile, rows_where
from db.source.csv_file import Block, read_header
from db.source.csv_problems import clip
from db.source.training_set import image_paths
from shared.categories import CATEGORIES
from shared.errors import BadSourceError, Problem
from shared.hashing import sha256_of

COLUMNS: Final = ("productid", "operation", "designation", "description", "imageid", "prdtypecode")
OPERATIONS: Final = ("update", "delete", "insert")
_NEVER_EMPTY: Final = ("designation", "prdtypecode")


@dataclass(frozen=True)
class CorrectionFile:
    """The content of a correction file.

    Attributes:
        file: the file, with the problems that were found in its rows (`file.problems`).
        sha256: the SHA-256 of the bytes of the file.
        columns: the names of the columns that the file has.
        rows: one row for each product whose productid and operation are valid. The columns are row_number (the row's
            position in `file`), operation, productid, designation, description, imageid, image_path and prdtypecode. A value
            is null if its column or field is missing in the file, or if the value is reported as a problem.
    """

    file: CheckedFile
    sha256: str
    columns: tuple[str, ...]
    rows: pa.Table


def read_correction(path: Path) -> CorrectionFile:
    """Read and check a correction file.

    Problems of single rows raise no error: the attribute `file.problems` of the result lists them.

    Raises:
        BadSourceError: the file cannot be split into rows and columns, or one of its columns is missing or unknown.
    """
    columns = _columns(path)
    file = CheckedFile(path, columns, fix="correct the value, or remove the row")
    given = file.csv.whole()
    productids = file.integers(given, "productid")
    file.unique("productid", productids)
    rows = {
        "row_number": pa.array(np.arange(file.csv.num_rows)),
        "operation": _operations(file, given.text),
        "productid": productids,
        "designation": _text(file, given, "designation"),
        "description": _text(file, given, "description"),
        "imageid": _number(file, given, "imageid"),
        "prdtypecode": _class_codes(file, given),
    }
    _check_fields(file, given.text, rows["operation"])
    table = pa.table(rows)
    table = table.append_column("image_path", image_paths(table, "image_train"))
    return CorrectionFile(file, sha256_of(path), columns, _valid_rows(table))


def _columns(path: Path) -> tuple[str, ...]:
    header = read_header(path, ["productid"])
    problems = [
        Problem(path.name, 1, clip(",".join(header)), reason, f"valid columns: {', '.join(COLUMNS)}")
        for reason in (
            *(f"column {name!r} is unknown" for name in header if name not in COLUMNS),
            *(["there is nothing to correct"] if header == ["productid"] else []),
        )
    ]
    if problems:
        raise BadSourceError(problems, path.parent)
    return tuple(dict.fromkeys(header))  # without repeated column names; CheckedFile reports them later


def _operations(file: CheckedFile, text: pa.Table) -> pa.ChunkedArray:
    """Return each row's operation. Report an unknown operation as a problem of `file`; the result is null for that row."""
    if "operation" not in text.column_names:
        return pa.chunked_array([pa.array(["update"] * text.num_rows)])
    operations = text["operation"]
    known = pc.is_in(operations, value_set=pa.array(OPERATIONS))
    file.report(
        rows_where(pc.invert(known)),
        "operation",
        f"operation is none of {', '.join(OPERATIONS)}",
        "correct it",
    )
    return pc.if_else(known, operations, None)


def _text(file: CheckedFile, given: Block, column: str) -> pa.ChunkedArray:
    if column not in given.text.column_names:
        return pa.chunked_array([pa.nulls(given.text.num_rows, pa.string())])
    return file.texts(given, column)


def _number(file: CheckedFile, given: Block, column: str) -> pa.ChunkedArray:
    if column not in given.text.column_names:
        return pa.chunked_array([pa.nulls(given.text.num_rows, pa.int64())])
    return file.integers(given, column, may_be_empty=True)


def _class_codes(file: CheckedFile, given: Block) -> pa.ChunkedArray:
    codes = _number(file, given, "prdtypecode")
    known = pc.is_in(codes, value_set=pa.array(CATEGORIES, pa.int64()))
    unknown = rows_where(pc.and_(codes.is_valid(), pc.invert(known)))
    file.report(
        unknown,
        "prdtypecode",
        "prdtypecode is not a known class",
        f"the classes are {', '.join(map(str, CATEGORIES))}",
    )
    return pc.if_else(known, codes, None)


def _check_fields(file: CheckedFile, text: pa.Table, operations: pa.ChunkedArray) -> None:
    """Report two faults: an update with an empty designation or prdtypecode, and a deletion with a value besides productid."""
    updates, deletions = (pc.fill_null(pc.equal(operations, name), False) for name in ("update", "delete"))
    for column in (name for name in text.column_names if name not in {"productid", "operation"}):
        empty = text[column].is_null()
        if column in _NEVER_EMPTY:
            remedy = "fill it in; to keep the old value, use a file without this column"
            file.report(rows_where(pc.and_(updates, empty)), column, f"{column} may not be empty", remedy)
        given = rows_where(pc.and_(deletions, pc.invert(empty)))
        file.report(
            given, column, f"a deletion takes no {column}", "empty the field, or correct the operation"
        )


def _valid_rows(rows: pa.Table) -> pa.Table:
    """Return the rows with a valid productid and operation. Of rows with the same productid, return only the first."""
    known = rows.filter(pc.and_(rows["productid"].is_valid(), rows["operation"].is_valid()))
    _, first = np.unique(known["productid"].to_numpy(), return_index=True)
    return known.take(pa.array(np.sort(first)))
