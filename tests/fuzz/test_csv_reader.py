"""Whatever bytes the source files hold: read exactly, or refused whole with file and line, and nothing else."""

from pathlib import Path
from unittest.mock import patch

import csv_sources
import numpy as np
import pyarrow as pa
import pytest
from csv_reference import Lines, Row, Wrong, read
from csv_sources import GOOD, HEADERS, X_TEST, X_TRAIN, Y_TEST, Y_TRAIN, Files
from fuzzing import count, inputs
from hypothesis import given
from hypothesis import strategies as st

from db.source import csv_file
from db.source.training_set import read_test_set, read_training_set
from shared.errors import BadInputError

BLOCK_BYTES = csv_file._BLOCK_BYTES
# Arrow reads a file in blocks: small ones put their borders everywhere.
block_sizes = st.sampled_from([BLOCK_BYTES, BLOCK_BYTES, 16, 61, 128, 509])


def read_training_rows(directory: Path) -> list[Row]:
    training_set = read_training_set(directory, 42, 10)
    rows = training_set.rows(0, training_set.total_rows)
    assert sorted(rows["productid"].to_pylist()) == sorted(training_set.table["productid"].to_pylist())
    rows = rows.drop(["image_path", "sample_rank", "split"])
    return rows.take(pa.array(np.argsort(training_set.order))).to_pylist()


def read_test_rows(directory: Path) -> list[Row]:
    return read_test_set(directory).drop("image_path").to_pylist()


def require_exact_or_refused(directory: Path, files: Files, block_size: int) -> bool:
    """Read the files as the pipeline does and as the rules say; returns whether they were accepted."""
    csv_sources.write(directory, files)
    accepted = True
    for products, labels, read_rows in (
        (X_TRAIN, Y_TRAIN, read_training_rows),
        (X_TEST, Y_TEST if Y_TEST in files else None, read_test_rows),
    ):
        expected = read(files, products, labels)
        try:
            with patch.object(csv_file, "_BLOCK_BYTES", block_size):
                rows = read_rows(directory)
        except BadInputError as error:
            accepted = False
            require_right_reasons(error, expected)
        else:
            assert [{"": row.pop("index")} | row for row in rows] == expected
    return accepted


def require_right_reasons(error: BadInputError, expected: list[Row] | dict[str, Wrong]) -> None:
    assert isinstance(expected, dict), f"refused, and nothing is wrong with it: {error}"
    reported: dict[str, Lines] = {}
    for problem in error.problems:
        reported.setdefault(problem.file, set()).add(problem.line)
        assert problem.reason
        assert problem.remedy
    assert reported.keys() == expected.keys()
    for name, lines in reported.items():
        assert expected[name].must <= lines <= expected[name].must | expected[name].may
    assert str(error.problems[0]) in str(error)


# ---- what was found, with the size of block at which it shows

X_HEADER, Y_HEADER = HEADERS[X_TEST], HEADERS[Y_TRAIN]
FOUND = {
    # Arrow drops the LF of a CRLF that lies across two blocks: a value was read one character short (apache/arrow#51368).
    "CRLF across two blocks": ({X_TEST: X_HEADER + b'7,"' + b"x" * 17 + b'\r\n",,200,900\n'}, 64),
    # The block size that cuts no CRLF can be far away, or be the whole file.
    "nothing but CRLF": ({X_TEST: X_HEADER + b'7,"' + b"\r\n" * 300 + b'",,200,900\n'}, 64),
    # "straddling object straddles two block boundaries", without a line, for a row longer than a block; or for any such header.
    "row longer than two blocks": ({X_TEST: X_HEADER + b"7,a," + b"b" * 300 + b",200,900\n"}, 64),
    "header longer than a block": (GOOD, 16),
    # html.unescape raises ValueError at more digits than int() takes.
    "character reference without end": (
        {X_TRAIN: X_HEADER + b"0,a,&#" + b"1" * 4_301 + b";,100,900\n1,b,,101,901\n"},
        BLOCK_BYTES,
    ),
    # The limit of Python's csv module on the length of a field hid that a column is missing: KeyError.
    "name of a column without end": ({X_TEST: b"x" * 140_000 + X_HEADER + b"7,a,b,200,900\n"}, BLOCK_BYTES),
    # Reported one line above where they are: lines were counted from 2.
    "line end in the header": ({Y_TRAIN: b',prdtypecode,"a\nb"\n0,10,\n1,x,\n'}, BLOCK_BYTES),
    # A CR was a line end for who counts fields, and none for who checks values or encoding.
    "CR inside a value": ({X_TRAIN: X_HEADER + b'0,"a\rb",,100,900\n1,c,,x,901\n'}, BLOCK_BYTES),
    "CR for all line ends": (
        {X_TRAIN: X_HEADER.replace(b"\n", b"\r") + b"0,a,,100,900\r1,\xe9,,101,901\r"},
        BLOCK_BYTES,
    ),
    # Accepted: only columns that are read were checked to be UTF-8, and the others as far as Python buffers the header.
    "not UTF-8 in another column": (
        {X_TEST: b"note," + X_HEADER + b",7," + b"x" * 10_000 + b",,200,900\n\xe9,8,a,,201,901\n"},
        BLOCK_BYTES,
    ),
    # A message shows the first problems only, in the order of the files: it need not name each file, the problems do.
    "more problems in one file than a message shows": (
        {X_TRAIN: X_HEADER + b"0,a\r\n" * 30, Y_TRAIN: b""},
        BLOCK_BYTES,
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_read_exactly_or_refused(directory, name):
    files, block_size = FOUND[name]
    require_exact_or_refused(directory, GOOD | files, block_size)


# ---- what is looked for


@inputs(short=250, long=40_000)
@given(csv_sources.structured, block_sizes)
def test_tables_with_anything_done_to_their_rows_and_columns(directory, files, block_size):
    count("rows and columns", accepted=require_exact_or_refused(directory, files, block_size))


@inputs(short=150, long=20_000)
@given(csv_sources.bytewise, block_sizes)
def test_files_with_anything_done_to_their_bytes(directory, files, block_size):
    count("bytes", accepted=require_exact_or_refused(directory, files, block_size))


@inputs(short=200, long=20_000)
@given(csv_sources.raw_fields(), block_sizes)
def test_files_with_quotes_and_line_ends_anywhere(directory, files, block_size):
    count("quotes and line ends", accepted=require_exact_or_refused(directory, files, block_size))


@inputs(short=100, long=5_000)
@given(csv_sources.raw_bytes(), block_sizes)
def test_files_of_nothing_but_bytes(directory, files, block_size):
    count("nothing but bytes", accepted=require_exact_or_refused(directory, files, block_size))
