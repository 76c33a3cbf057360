"""Check a file of products whose classes are to be predicted. It has the format of X_test.csv."""

from pathlib import Path
from typing import Final

import pyarrow as pa

from db.source.checked_file import CheckedFile
from db.source.csv_file import INDEX, CsvFile
from db.source.training_set import TEXT_COLUMNS
from shared.errors import BadProductsError, BadSourceError

_COLUMNS: Final = (INDEX, *TEXT_COLUMNS)


def open_products(path: Path) -> CsvFile:
    """Check all rows of a file, and return the file with the columns index, designation and description.

    A prediction needs no other column, so the file may have others, such as productid and imageid, or lack them.

    Raises:
        BadProductsError: the file has problems; the error lists all of them.
    """
    try:
        file = CheckedFile(path, _COLUMNS, fix="correct the value, or remove the row")
        indexes = []
        for block in file.csv.blocks():
            indexes += file.integers(block, INDEX).chunks
            for column in TEXT_COLUMNS:
                file.texts(block, column)
        file.unique(INDEX, pa.chunked_array(indexes))
    except BadSourceError as error:
        raise BadProductsError(error.problems, path) from error
    if file.problems:
        raise BadProductsError(file.problems, path)
    return file.csv
