"""Check the rows of one CSV file column by column, and find every problem before any row is written to PostgreSQL."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from db.source.csv_file import INDEX, Block, open_csv
from db.source.csv_problems import clip, lines_of_rows
from shared.errors import Problem

# The maximum length of a product's text in characters: eight times the longest text in the files of the Rakuten data challenge.
# The constraint products_text_length of the table `products` has the same limit.
LONGEST_TEXT: Final = 100_000

# The maximum number of digits in each column. Within this limit, a number fits the column's type in PostgreSQL: bigint for
# ids, integer for the class code (prdtypecode).
_DIGITS: Final = {INDEX: 18, "productid": 18, "imageid": 18, "prdtypecode": 9}
_FIX: Final = "correct the value in the source file, or remove the row from X and Y"


class CheckedFile:
    """One CSV file and the problems of its rows.

    Line numbers are computed only if there is a problem to report, because Python's slow CSV reader must read the whole file.

    Attributes:
        path: the path of the file.
        csv: the rows of the file.
        problems: the problems that the checks have found so far.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, fix: str = _FIX) -> None:
        self.path = path
        self.csv = open_csv(path, columns)
        self._fix = fix
        self.problems: list[Problem] = []
        self._lines: list[int] | None = None

    def line(self, row: int) -> int:
        if self._lines is None:
            self._lines = lines_of_rows(self.path)
        return self._lines[row]

    def report(
        self, rows: npt.NDArray[np.int64], column: str, reason: str | Callable[[int], str], remedy: str
    ) -> None:
        """Add one problem to `problems` for each row number in `rows`.

        `column` is the column with the wrong value. If `reason` is a function, it takes a row number and returns the reason.
        """
        if len(rows) == 0:
            return
        for row, value in zip(rows.tolist(), self.csv.rows(rows)[column].to_pylist(), strict=True):
            why = reason if isinstance(reason, str) else reason(row)
            self.problems.append(Problem(self.path.name, self.line(row), clip(value), why, remedy))

    def integers(self, block: Block, column: str, *, may_be_empty: bool = False) -> pa.ChunkedArray:
        """Return one column of a block of rows as int64.

        Report each value that is not a whole number or has too many digits, and make it null. Report empty fields too, unless
        `may_be_empty` is True.
        """
        text = block.text[column]
        whole = pc.and_(pc.ascii_is_decimal(text), pc.less_equal(pc.binary_length(text), _DIGITS[column]))
        whole = pc.fill_null(whole, may_be_empty)
        if pc.all(whole).as_py():
            return text.cast(pa.int64())
        name = column or "the index"
        reason = f"{name} is not a whole number of at most {_DIGITS[column]} digits"
        self.report(block.first_row + rows_where(pc.invert(whole)), column, reason, self._fix)
        return pc.if_else(whole, text, None).cast(pa.int64())

    def unique(self, column: str, numbers: pa.ChunkedArray) -> None:
        """Report each row whose value in `column` is also in an earlier row. `numbers` holds all values of `column`."""
        values = numbers.drop_null().to_numpy()
        in_order = np.sort(values)
        if (in_order[1:] != in_order[:-1]).all():
            return
        rows = rows_where(numbers.is_valid())
        order = np.argsort(values, kind="stable")
        repeats = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
        firsts = order[np.searchsorted(values[order], values[order[repeats]])]
        first_of = dict(zip(rows[order[repeats]].tolist(), rows[firsts].tolist(), strict=True))
        name = column or "index"
        reason = lambda row: f"duplicate {name}, first seen on line {self.line(first_of[row])}"  # noqa: E731
        self.report(np.sort(rows[order[repeats]]), column, reason, "keep one of the rows")

    def texts(self, block: Block, column: str) -> pa.ChunkedArray:
        """Return one column as text. Report each value with a NUL character or too many characters, and make it null."""
        text = block.text[column]
        if block.has_nul:
            nul = pc.fill_null(pc.match_substring(text, "\x00"), False)
            reason, remedy = f"{column} holds a NUL character", "remove it: PostgreSQL cannot store it"
            self.report(block.first_row + rows_where(nul), column, reason, remedy)
            text = pc.if_else(nul, None, text)
        # Counting bytes is fast, and no text has more characters than bytes. Count characters only if there are too many bytes.
        if (pc.max(pc.binary_length(text)).as_py() or 0) > LONGEST_TEXT:
            long = pc.fill_null(pc.greater(pc.utf8_length(text), LONGEST_TEXT), False)
            reason = f"{column} is longer than {LONGEST_TEXT:,} characters"
            remedy = "shorten it; if a quote is not closed, the text may contain whole rows"
            self.report(block.first_row + rows_where(long), column, reason, remedy)
            text = pc.if_else(long, None, text)
        return text


def rows_where(mask: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the row positions (from 0) at which `mask` is true, as int64, shape (number of true values,)."""
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False))
