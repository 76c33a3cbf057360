"""Read one CSV file whole and correctly, and say on which line anything is wrong.

Every field is read as text by Arrow's reader: quotes, commas and line ends inside quotes belong to the value, and only an
empty field is null ("NA" and "None" are words). A file with something to report is read again, slowly, by Python's reader,
which knows its lines: LF, CRLF and CR end one, inside quotes too.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from shared.errors import BadSourceError, Problem

INDEX = ""  # the challenge's files begin with an unnamed index column
_VALUE_SHOWN = 80
_BLOCK_BYTES = 8 << 20
_LARGEST_BLOCK_BYTES = 2**31 - 1  # Arrow takes an int32
_QUOTE, _LF, _CR = b'"\n\r'
_BORDERS = np.frombuffer(b',\r\n"', np.uint8)

_FETCH_AGAIN = "fetch the file again and compare its size with the original"


def shown(value: str | None) -> str:
    """A value as a message shows it: not longer than a line."""
    value = value or ""
    return value if len(value) <= _VALUE_SHOWN else value[: _VALUE_SHOWN - 3] + "..."


def read_csv(path: Path, columns: Sequence[str]) -> pa.Table:
    """The named columns as text, in file order.

    Returns:
        A table of string columns; an empty field is null.

    Raises:
        BadSourceError: the file is missing, empty, truncated, not UTF-8, lacks a column, or has rows of another length.
    """
    header = read_header(path, columns)
    if not _well_quoted(path):
        problems = list(_structural_problems(path, len(header)))
        if problems:
            raise BadSourceError(problems)
    try:
        table = _parse(path, header, _BLOCK_BYTES)
    except pa.ArrowInvalid as error:
        problems = list(_structural_problems(path, len(header)))
        if problems:
            raise BadSourceError(problems) from error
        # the header or a row is longer than a block
        table = _parse(path, header, min(path.stat().st_size, _LARGEST_BLOCK_BYTES))
    problems = list(_empty_rows(table, path))
    if problems:
        raise BadSourceError(problems)
    if not _ends_with_newline(path):
        raise BadSourceError([_no_final_newline(path)])
    return table.select(columns)


def read_header(path: Path, columns: Sequence[str]) -> list[str]:
    """The names of the file's columns, among them each of `columns` once.

    Raises:
        BadSourceError: the file is missing or empty, its header not UTF-8, or lacks a column.
    """
    problems = list(_header_problems(path, columns))
    if problems:
        raise BadSourceError(problems)
    header, _ = _header(path)
    return header


def _parse(path: Path, header: Sequence[str], block_bytes: int) -> pa.Table:
    """All columns, so that all of them are checked to be UTF-8; raises pa.ArrowInvalid."""
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=_cutting_no_line_end(path, block_bytes)),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )


def _cutting_no_line_end(path: Path, block_bytes: int) -> int:
    """The next block size with no CRLF across two blocks: Arrow would drop its LF, inside quotes too (apache/arrow#51368)."""
    text = np.memmap(path, np.uint8, mode="r")
    while ((text[block_bytes - 1 : -1 : block_bytes] == _CR) & (text[block_bytes::block_bytes] == _LF)).any():
        block_bytes += 1
    return block_bytes


def lines_of_rows(path: Path) -> list[int]:
    """The physical line where each row of `read_csv` begins; the header begins on line 1."""
    _, *lines = (line for line, _ in _rows(path))
    return lines


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row, the header first, with the line where it begins; raises BadSourceError at one that is malformed."""
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
            remedy = 'close the quote, and write a quote inside a value as ""; at the end of a file: it is truncated'
            raise BadSourceError([Problem(path.name, begins, _line(path, begins), reason, remedy)]) from error


def _header(path: Path) -> tuple[list[str], bool]:
    """The names of the columns, and whether anything follows them; raises UnicodeDecodeError."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), []), bool(file.read(1))


def _header_problems(path: Path, columns: Sequence[str]) -> Iterator[Problem]:
    if not path.is_file():
        yield Problem(path.name, None, "", "file is missing", f"put it into {path.parent}, or set DATA_PATH")
        return
    if path.stat().st_size == 0:
        yield Problem(path.name, None, "", "file is empty", _FETCH_AGAIN)
        return
    try:
        header, has_rows = _header(path)
    except UnicodeDecodeError:
        yield from _undecodable_lines(path)
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
                path.name, 1, shown(",".join(header)), reason, f"the header must name the columns {expected}"
            )
    if not has_rows:
        yield Problem(path.name, 1, "", "no rows below the header", _FETCH_AGAIN)


def _empty_rows(table: pa.Table, path: Path) -> Iterator[Problem]:
    """Lines with nothing on them, which Arrow's reader gives as rows of nulls."""
    empty = np.logical_and.reduce([column.is_null().to_numpy() for column in table.columns])
    if empty.any():
        lines = lines_of_rows(path)
        for row in np.flatnonzero(empty).tolist():
            yield Problem(path.name, lines[row], "", "empty row", "remove it")


def _well_quoted(path: Path) -> bool:
    """Whether every quote begins, ends or doubles: Arrow's reader takes an open quote for a value to the end of the file.

    Quotes are counted from the start. An even one begins a field or follows the odd one that it doubles, an odd one ends a
    field or precedes its double. True is certain; False may also be a quote in the middle of an unquoted field.
    """
    text = np.memmap(path, np.uint8, mode="r")
    quotes = np.flatnonzero(text == _QUOTE)
    begins, ends = quotes[::2], quotes[1::2]
    before, after = text[begins[begins > 0] - 1], text[ends[ends < len(text) - 1] + 1]
    return len(begins) == len(ends) and bool(
        np.isin(before, _BORDERS).all() and np.isin(after, _BORDERS).all()
    )


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) in {b"\n", b"\r"}


def _no_final_newline(path: Path) -> Problem:
    # Without it nobody can tell a whole last number from one that was cut off.
    with path.open("rb") as file:
        file.seek(-min(_VALUE_SHOWN, path.stat().st_size), 2)
        tail = file.read().splitlines()[-1].decode("utf-8", errors="replace")
    reason = "the last line has no line end: the file may be truncated"
    remedy = "fetch the file again; if it is whole, end it with a newline"
    return Problem(path.name, lines_of_rows(path)[-1], tail, reason, remedy)


def _structural_problems(path: Path, width: int) -> Iterator[Problem]:
    """Why a file cannot be split into rows: bytes that are no UTF-8, rows of another length, an open quote."""
    undecodable = list(_undecodable_lines(path))
    if undecodable:
        yield from undecodable
        return
    try:
        for line, row in _rows(path):
            if len(row) != width:
                reason = f"{len(row)} fields where the header has {width}"
                remedy = "quote values that hold commas or line ends; if this is the last line, the file is truncated"
                yield Problem(path.name, line, shown(",".join(row)), reason, remedy)
    except BadSourceError as error:
        yield from error.problems


def _undecodable_lines(path: Path) -> Iterator[Problem]:
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            around = line[max(0, error.start - 20) : error.start + 20].decode(errors="backslashreplace")
            reason = f"byte 0x{line[error.start]:02x} at position {error.start} is not UTF-8"
            cut_off = error.reason == "unexpected end of data"
            convert = f"convert the file, e.g. iconv -f latin1 -t utf-8 {path.name}"
            yield Problem(path.name, number, around, reason, _FETCH_AGAIN if cut_off else convert)


def _line(path: Path, number: int) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for current, line in enumerate(file, start=1):
            if current == number:
                return shown(line.rstrip("\r\n"))
    return ""
