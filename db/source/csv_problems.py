"""Find what is wrong in a CSV file, and on which lines. Use Python's csv module: it is slow, but knows the line numbers.

LF, CRLF and CR end a line, also inside a quoted value. So a row whose value contains a line end covers several lines.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from db.source.file_format import FETCH_AGAIN, LET_READ, encoding_problems, foreign_format, separator_problem
from shared.errors import BadSourceError, Problem

_VALUE_SHOWN = 80
_OTHER_SEPARATORS = ";\t|"


def clip(value: str | None) -> str:
    """Shorten a value to at most 80 characters, so that a message can show it. Return an empty text for None."""
    value = value or ""
    return value if len(value) <= _VALUE_SHOWN else value[: _VALUE_SHOWN - 3] + "..."


def lines_of_rows(path: Path) -> list[int]:
    """Return, for each row below the header of a CSV file, the number of the line on which the row begins (header: line 1)."""
    _, *lines = (line for line, _ in _rows(path))
    return lines


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV file, the header first, as (number of the line on which the row begins, fields of the row).

    Raise BadSourceError at the first malformed row.
    """
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        begins = 1
        try:
            for row in reader:
                yield begins, row
                begins = reader.line_num + 1
        except csv.Error as error:
            reason = f"malformed quoting: {error}"
            remedy = 'close the quote, and write a quote inside a value as ""; at the end of the file: the file is truncated'
            problem = Problem(path.name, begins, _line(path, begins), reason, remedy)
            raise BadSourceError([problem], path.parent) from error


def read_names(path: Path, separator: str = ",") -> tuple[list[str], bool]:
    """Return (the column names in the header of a CSV file, whether the file has anything after the header).

    Raise UnicodeDecodeError if the beginning of the file is not UTF-8.
    """
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, delimiter=separator), []), bool(file.read(1))


def header_problems(path: Path, columns: Sequence[str]) -> Iterator[Problem]:
    if (problem := _file_problem(path)) is not None:
        yield problem
        return
    try:
        header, has_rows = read_names(path)
        others = (
            {mark: read_names(path, mark)[0] for mark in _OTHER_SEPARATORS}
            if set(columns) - set(header)
            else {}
        )
    except UnicodeDecodeError:
        yield from encoding_problems(path)
        return
    if (problem := separator_problem(path, columns, {",": header, **others})) is not None:
        yield problem
        return
    expected = ",".join(columns)
    for column in columns:
        if header.count(column) != 1:
            name = f"column {column!r}" if column else "the unnamed index column"
            reason = (
                f"{name} is missing"
                if column not in header
                else f"{name} appears {header.count(column)} times"
            )
            yield Problem(
                path.name, 1, clip(",".join(header)), reason, f"the header must name the columns {expected}"
            )
    if not has_rows:
        yield Problem(path.name, 1, "", "no rows below the header", FETCH_AGAIN)


def _file_problem(path: Path) -> Problem | None:
    if not path.is_file():
        remedy = f"put it into {path.parent}, or name its folder (setting DATA_PATH, option --data)"
        return Problem(path.name, None, "", "file is missing", remedy)
    try:
        return foreign_format(path)
    except OSError as error:
        return Problem(path.name, None, "", f"the file cannot be read: {error.strerror}", LET_READ)


def structural_problems(path: Path, width: int) -> Iterator[Problem]:
    """Yield the problems that make rows of a CSV file unreadable: bytes that are not UTF-8, wrong number of fields, open quote.

    `width` is the number of fields in the header.
    """
    if undecodable := list(encoding_problems(path)):
        yield from undecodable
        return
    try:
        for line, row in _rows(path):
            if len(row) != width:
                reason = f"{len(row)} fields where the header has {width}"
                remedy = "quote values that hold commas or line ends; if this is the last line, the file is truncated"
                yield Problem(path.name, line, clip(",".join(row)), reason, remedy)
    except BadSourceError as error:
        yield from error.problems


def no_final_newline(path: Path) -> Problem:
    # A file without a final newline may be truncated. For example, its last number 2583 may have become 25, and no other check
    # would notice this.
    with path.open("rb") as file:
        file.seek(-min(_VALUE_SHOWN, path.stat().st_size), 2)
        tail = file.read().splitlines()[-1].decode("utf-8", errors="replace")
    reason = "the last line has no line end: the file may be truncated"
    remedy = "fetch the file again; if it is whole, end it with a newline"
    return Problem(path.name, lines_of_rows(path)[-1], tail, reason, remedy)


def _line(path: Path, number: int) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for current, line in enumerate(file, start=1):
            if current == number:
                return clip(line.rstrip("\r\n"))
    return ""
