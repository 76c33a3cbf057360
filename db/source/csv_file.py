"""Read one CSV file correctly, one part at a time, and report each problem with its line.

A first pass over the bytes of the file finds where each row begins. LF, CRLF and CR end a row, but not inside quotes. After
that, any rows can be read without the rest of the file, so the file never has to fit into memory. Arrow reads every
field as text. Quotes, commas and line ends inside quotes belong to the value. Only an empty field is null: "NA" and "None" stay
text. If there is a problem to report, Python's csv module reads the file again: it is slow, but it knows the line numbers.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from db.source.csv_problems import (
    header_problems,
    lines_of_rows,
    no_final_newline,
    read_names,
    structural_problems,
)
from shared.errors import BadSourceError, Problem, SourceChangedError

INDEX = ""  # name of the first column, a row index: in the files of the Rakuten challenge, it is empty
_BLOCK_BYTES = 8 << 20
_SCANNED_BYTES = 1 << 20
_LARGEST_BLOCK_BYTES = 2**31 - 1  # the maximum of an int32, the type of Arrow's block_size
_QUOTE, _LF, _CR = b'"\n\r'
_IS_BORDER: Final = np.isin(np.arange(256), list(b',\r\n"'))


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a CSV file as text. An empty field is null. `has_nul` says whether a row contains a NUL."""

    first_row: int
    text: pa.Table
    has_nul: bool


@dataclass(frozen=True)
class CsvFile:
    """A CSV file after `open_csv` has found where its rows begin.

    Attributes:
        path: the path of the file.
        columns: the names of the columns to read.
        header: the names of all columns of the file.
        starts: the byte offsets where each row begins and where the last row ends, shape (rows + 1,), int64.
        version: the size and the modification time of the file when `open_csv` read it. Later reads raise an error if the file
            now has other values.
    """

    path: Path
    columns: Sequence[str]
    header: Sequence[str]
    starts: npt.NDArray[np.int64]
    version: tuple[int, int]

    @property
    def num_rows(self) -> int:
        return len(self.starts) - 1

    def blocks(self) -> Iterator[Block]:
        """Yield all rows in file order, about 8 MB at a time.

        Raises:
            BadSourceError: a row is not UTF-8, or has more or fewer fields than the header. After the last block, this error
                is also raised if a row was empty, or if the file does not end with a line end.
        """
        empty: list[int] = []
        first = 0
        while first < self.num_rows:
            limit = self.starts[first] + _BLOCK_BYTES
            end = max(first + 1, int(np.searchsorted(self.starts, limit, "right")) - 1)
            content = self._read([(int(self.starts[first]), int(self.starts[end]))])
            table = self._parse(content, end - first)
            empty += (first + _empty_rows(table)).tolist()
            yield Block(first, table.select(self.columns), b"\0" in content)
            first = end
        if empty:
            lines = lines_of_rows(self.path)
            raise BadSourceError(
                [Problem(self.path.name, lines[row], "", "empty row", "remove it") for row in empty],
                self.path.parent,
            )
        if not _ends_with_newline(self.path):
            raise BadSourceError([no_final_newline(self.path)], self.path.parent)

    def whole(self) -> Block:
        """Return all rows of the file as one block. Use this for small files only. Raise the same errors as `blocks`."""
        blocks = list(self.blocks())
        return Block(
            0, pa.concat_tables(block.text for block in blocks), any(block.has_nul for block in blocks)
        )

    def rows(self, numbers: npt.NDArray[np.int64]) -> pa.Table:
        """Return the rows at the positions `numbers` (from 0) as text, in the order of `numbers`. An empty field is null.

        Raises:
            SourceChangedError: the file has changed since `open_csv` read it.
        """
        ranges = zip(self.starts[numbers].tolist(), self.starts[numbers + 1].tolist(), strict=True)
        return self._parse(self._read(ranges), len(numbers)).select(self.columns)

    def _read(self, ranges: Iterable[tuple[int, int]]) -> bytes:
        """Return the bytes of the header, followed by the bytes of the file in each range (start, end) of byte offsets.

        Read the file instead of mapping it into memory, because mapped pages would count as memory of the process.
        """
        with self.path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            if _version(os.fstat(descriptor)) != self.version:
                raise SourceChangedError(
                    f"{self.path.name} has been changed while it was read",
                    remedy="source files are immutable: restore the original, then try again",
                )
            header = os.pread(descriptor, int(self.starts[0]), 0)
            return b"".join([header, *(os.pread(descriptor, end - start, start) for start, end in ranges)])

    def _parse(self, content: bytes, rows: int) -> pa.Table:
        """Parse `content`: a header and `rows` rows. Parse all columns of the file, so that Arrow checks that all are UTF-8.

        Arrow parses `content` as one block. With several blocks, Arrow would lose the LF of a CRLF between two
        blocks, even inside quotes (apache/arrow#51368).
        """
        options = pyarrow.csv.ReadOptions(
            block_size=min(len(content), _LARGEST_BLOCK_BYTES),
            use_threads=False,  # threads would parse several blocks in parallel, but `content` is one block
        )
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(content),
                read_options=options,
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(self.header, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            problems = list(structural_problems(self.path, len(self.header)))
            if problems:
                raise BadSourceError(problems, self.path.parent) from error
            raise
        assert table.num_rows == rows, f"{self.path}: {table.num_rows} rows where {rows} begin"  # noqa: S101
        return table


def open_csv(path: Path, columns: Sequence[str]) -> CsvFile:
    """Open a CSV file: find the byte offset where each of its rows begins. `columns` names the columns to read later.

    Raises:
        BadSourceError: the file is missing or empty, lacks a column, or has a quote that is not closed.
    """
    header = read_header(path, columns)
    version = _version(path.stat())
    line_ends, are_quoted, is_well_quoted = _scan(path)
    if is_well_quoted:
        starts = line_ends[~are_quoted]
    else:
        problems = list(structural_problems(path, len(header)))
        if problems:
            raise BadSourceError(problems, path.parent)
        starts = line_ends[np.array(lines_of_rows(path)) - 2]
    size, _ = version
    # If the last row has no line end, this row ends at the end of the file. `blocks` rejects such a file after its last row.
    if starts[-1] != size:
        starts = np.append(starts, size)
    return CsvFile(path, columns, header, starts, version)


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def read_header(path: Path, columns: Sequence[str]) -> list[str]:
    """Return the names of all columns of a file. Check that each of `columns` occurs among them exactly once.

    Raises:
        BadSourceError: the file is missing or empty, or its header is not UTF-8, lacks a column or repeats one of `columns`.
    """
    problems = list(header_problems(path, columns))
    if problems:
        raise BadSourceError(problems, path.parent)
    header, _ = read_names(path)
    return header


def _empty_rows(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the positions of the rows that were empty lines. Arrow's reader returns an empty line as a row of nulls only."""
    return np.flatnonzero(np.logical_and.reduce([column.is_null().to_numpy() for column in table.columns]))


def _scan(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], bool]:
    """Find the line ends and check the quotes of a file.

    Return three values: the byte offset after each line end; whether each line end is inside quotes; and True if all quotes are
    certainly valid. If the third value is False, the file may have an invalid quote, or a quote in the middle of an unquoted
    field. A quote in the middle of an unquoted field is allowed.

    If all quotes are valid, a line end is inside quotes exactly if an odd number of quotes is before the line end. This is also
    true after two adjacent quotes, which stand for one quote character inside a quoted field.

    The check numbers the quotes from 0. A valid quote with an even number begins a field, or is the second of two adjacent
    quotes. So a comma, a line end or a quote stands before it. A valid quote with an odd number ends a field, or is the first
    of two adjacent quotes. So a comma, a line end or a quote stands after it.
    """
    ends, are_quoted = [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    is_well_quoted = True
    parity = 0  # 1 if the number of quotes before this part is odd: the part then begins inside quotes
    for offset, text in _with_adjacent_bytes(path):
        around = np.frombuffer(text, np.uint8)
        inner = around[1:-1]
        is_line_end = inner == _LF
        if b"\r" in text:
            is_line_end |= (inner == _CR) & (around[2:] != _LF)
        marks = np.flatnonzero(is_line_end | (inner == _QUOTE))
        is_quote = inner[marks] == _QUOTE
        quotes_so_far = parity + np.cumsum(is_quote)
        quotes = marks[is_quote]
        begins, finishes = quotes[parity::2], quotes[1 - parity :: 2]
        is_well_quoted &= bool(_IS_BORDER[around[begins]].all() and _IS_BORDER[around[finishes + 2]].all())
        ends.append(offset + 1 + marks[~is_quote])
        are_quoted.append(quotes_so_far[~is_quote] % 2 == 1)
        parity = (parity + len(quotes)) % 2
    return np.concatenate(ends), np.concatenate(are_quoted), is_well_quoted and parity == 0


def _with_adjacent_bytes(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read a file in parts of 1 MB. Yield the offset of each part, and the part together with one more byte on each side.

    The additional bytes are the bytes of the file before and after the part. At the beginning of the file, a line feed replaces
    the missing byte, so that a field begins there. At the end, a comma replaces the missing byte, so that a field ends there.
    """
    with path.open("rb", buffering=0) as file:
        before, text, offset = b"\n", file.read(_SCANNED_BYTES), 0
        while text:
            following = file.read(_SCANNED_BYTES)
            yield offset, before + text + (following[:1] or b",")
            before, offset, text = text[-1:], offset + len(text), following


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) in {b"\n", b"\r"}
