"""One CSV file whose rows are checked column by column; every problem is found before anything is written."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from db.csv_file import INDEX, lines_of_rows, read_csv, shown
from shared.errors import Problem

# Eight times the longest of the challenge. The same number is a constraint of the table products.
LONGEST_TEXT: Final = 100_000

# What fits the PostgreSQL columns: bigint for ids, integer for codes.
_DIGITS: Final = {INDEX: 18, "productid": 18, "imageid": 18, "prdtypecode": 9}
_FIX: Final = "correct the value in the source file, or remove the row from X and Y"


class CheckedFile:
    """One file and what is wrong with its rows. Lines are counted only when there is something to report.

    Attributes:
        path: of the file.
        text: the named columns as text, in file order; an empty field is null.
        problems: what the checks have found so far.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, fix: str = _FIX) -> None:
        self.path = path
        self.text = read_csv(path, columns)
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
        for row in rows.tolist():
            value = shown(self.text[column][row].as_py())
            why = reason if isinstance(reason, str) else reason(row)
            self.problems.append(Problem(self.path.name, self.line(row), value, why, remedy))

    def integers(self, column: str, *, may_be_empty: bool = False) -> pa.ChunkedArray:
        """The column as int64, null where it is reported, and where it is empty if that is allowed."""
        text = self.text[column]
        whole = pc.match_substring_regex(text, rf"^[0-9]{{1,{_DIGITS[column]}}}$")
        whole = pc.fill_null(whole, may_be_empty)
        if not pc.all(whole).as_py():
            name = column or "the index"
            reason = f"{name} is not a whole number of at most {_DIGITS[column]} digits"
            self.report(rows_where(pc.invert(whole)), column, reason, self._fix)
        return pc.if_else(whole, text, None).cast(pa.int64())

    def unique(self, column: str, numbers: pa.ChunkedArray) -> None:
        rows = rows_where(numbers.is_valid())
        values = numbers.drop_null().to_numpy()
        order = np.argsort(values, kind="stable")
        repeats = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
        if len(repeats):
            firsts = order[np.searchsorted(values[order], values[order[repeats]])]
            first_of = dict(zip(rows[order[repeats]].tolist(), rows[firsts].tolist(), strict=True))
            name = column or "index"
            reason = lambda row: f"duplicate {name}, first seen on line {self.line(first_of[row])}"  # noqa: E731
            self.report(np.sort(rows[order[repeats]]), column, reason, "keep one of the rows")

    def texts(self, column: str) -> pa.ChunkedArray:
        """The column as it is, null where it is reported."""
        text = self.text[column]
        nul = pc.fill_null(pc.match_substring(text, "\x00"), False)
        long = pc.fill_null(pc.greater(pc.utf8_length(text), LONGEST_TEXT), False)
        reason = f"{column} holds a NUL character"
        self.report(rows_where(nul), column, reason, "remove it: PostgreSQL stores none")
        reason = f"{column} is longer than {LONGEST_TEXT:,} characters"
        self.report(rows_where(long), column, reason, "shorten it; an open quote may have swallowed rows")
        bad = pc.or_(nul, long)
        return pc.if_else(bad, None, text) if pc.any(bad).as_py() else text


def rows_where(mask: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The numbers of the rows where the mask is true, shape (found,), int64."""
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False))
