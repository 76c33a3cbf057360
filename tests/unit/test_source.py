"""The source files: read exactly, or refused whole with file, line, value and remedy."""

import csv
import html
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import csv_file, source
from db.csv_file import open_csv
from db.source import X_TEST, X_TRAIN, Y_TEST, Y_TRAIN, check
from db.text_group import text_group
from shared.errors import BadSourceError, Problem, SourceChangedError

SEED, HOLDOUT = 42, 10

X_HEADER = ",designation,description,productid,imageid\n"
Y_HEADER = ",prdtypecode\n"
# Row 0 spans lines 2 to 5, so that row 1 begins on line 6 and row 2 on line 7.
X_ROWS = (
    '0,"Vase, ""bleu""","ligne 1\nligne 2\r\n\nligne 4",100,900\n',
    "1,Livre,,101,901\n",
    "2,Jeu,NA,102,902\n",
)
Y_ROWS = ("0,10\n", "1,2583\n", "2,40\n")


@dataclass(frozen=True)
class Sources:
    """A good data set in a directory, to be spoilt."""

    directory: Path

    def __post_init__(self) -> None:
        self.write(X_TRAIN, X_HEADER, *X_ROWS)
        self.write(Y_TRAIN, Y_HEADER, *Y_ROWS)
        self.write(X_TEST, X_HEADER, "7,Lampe,,200,910\n")

    def write(self, name: str, *text: str | bytes) -> None:
        parts = (part if isinstance(part, bytes) else part.encode() for part in text)
        (self.directory / name).write_bytes(b"".join(parts))

    def training_set(self, seed: int = SEED, holdout_percentage: int = HOLDOUT) -> source.TrainingSet:
        return source.read_training_set(self.directory, seed, holdout_percentage)

    def training_table(self) -> pa.Table:
        return in_file_order(self.training_set())


def in_file_order(training_set: source.TrainingSet) -> pa.Table:
    """All rows of a training set with their texts and labels, as the file holds them."""
    rows = training_set.rows(0, training_set.total_rows).drop(["image_path", "sample_rank", "split"])
    return rows.take(pa.array(np.argsort(training_set.order)))


@pytest.fixture
def sources(tmp_path) -> Sources:
    return Sources(tmp_path)


def only_problem(directory: Path) -> Problem:
    (problem,) = check(directory)
    return problem


# ---- good files


def test_good_files_have_no_problems(sources):
    assert check(sources.directory) == []


def test_generated_files_have_no_problems(generated):
    assert check(generated) == []


def test_values_are_read_exactly(sources):
    table = sources.training_table()
    assert table.to_pylist() == [
        {
            "index": 0,
            "productid": 100,
            "imageid": 900,
            "designation": 'Vase, "bleu"',
            "description": "ligne 1\nligne 2\r\n\nligne 4",
            "prdtypecode": 10,
        },
        {
            "index": 1,
            "productid": 101,
            "imageid": 901,
            "designation": "Livre",
            "description": None,
            "prdtypecode": 2583,
        },
        {
            "index": 2,
            "productid": 102,
            "imageid": 902,
            "designation": "Jeu",
            "description": "NA",
            "prdtypecode": 40,
        },
    ]


@pytest.mark.parametrize(
    "word", ["NA", "None", "null", "NULL", "nan", "NaN", "N/A", "#N/A", "true", "1.0", "-", " ", "0"]
)
def test_words_that_look_like_nothing_are_words(sources, word):
    sources.write(X_TRAIN, X_HEADER, f"0,{word},{word},100,900\n", *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == (word, word)


def test_a_text_beyond_all_measure_is_refused(sources):
    longest = "x" * 100_000
    sources.write(X_TRAIN, X_HEADER, f"0,{longest},{longest},100,900\n", *X_ROWS[1:])
    assert sources.training_set().total_rows == 3
    sources.write(X_TRAIN, X_HEADER, f"0,a,{longest}x,100,900\n", *X_ROWS[1:])
    with pytest.raises(BadSourceError, match=r"X_train.csv:2: description is longer than 100,000 characters"):
        sources.training_set()


@pytest.mark.parametrize("empty", ["", '""'])
def test_an_empty_field_is_null(sources, empty):
    sources.write(X_TRAIN, X_HEADER, f"0,{empty},{empty},100,900\n", *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == (None, None)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_a_byte_order_mark_change_nothing(sources, newline, bom):
    expected = sources.training_table().slice(1)
    for name, header, rows in ((X_TRAIN, X_HEADER, X_ROWS), (Y_TRAIN, Y_HEADER, Y_ROWS)):
        text = header + "".join(rows[1:])
        sources.write(name, bom, text.replace("\n", newline))
    assert sources.training_table().equals(expected)


def test_a_quoted_header_after_a_byte_order_mark_is_read(sources):
    header = '"","designation","description","productid","imageid"\n'
    sources.write(X_TRAIN, b"\xef\xbb\xbf", header, *X_ROWS)
    assert check(sources.directory) == []


def test_characters_of_four_bytes_are_read(sources):
    sources.write(X_TRAIN, X_HEADER, "0,🎲 dés 🫖,é漢字,100,900\n", *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == ("🎲 dés 🫖", "é漢字")


def test_a_quote_in_the_middle_of_an_unquoted_field_is_a_character(sources):
    sources.write(X_TRAIN, X_HEADER, '0,TV 42" LED,5" 6",100,900\n', *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == ('TV 42" LED', '5" 6"')


def test_columns_may_come_in_any_order_with_others_among_them(sources):
    expected = sources.training_table().slice(1)
    sources.write(
        X_TRAIN,
        "imageid,note,,productid,description,designation,note\n",
        '901,"a\nb",1,101,,Livre,\n',
        "902,,2,102,NA,Jeu,x\n",
    )
    sources.write(Y_TRAIN, Y_HEADER, *Y_ROWS[1:])
    assert sources.training_table().equals(expected)


def test_numbers_fill_their_columns(sources):
    sources.write(X_TRAIN, X_HEADER, f"0,a,b,{10**18 - 1},{10**18 - 1}\n", "1,a,b,0,0\n")
    sources.write(Y_TRAIN, Y_HEADER, f"0,{10**9 - 1}\n", "1,0\n")
    table = sources.training_table()
    assert table["productid"].to_pylist() == [10**18 - 1, 0]
    assert table["prdtypecode"].to_pylist() == [10**9 - 1, 0]


def test_line_ends_inside_quotes_survive_wherever_the_reader_cuts_the_file(sources, monkeypatch):
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", 64)  # all borders of blocks, without a file of megabytes
    text = "\r\n" * 5
    for padding in range(64):
        sources.write(X_TEST, X_HEADER, f'7,{"x" * padding},"{text}",200,910\n')
        assert source.read_test_set(sources.directory)["description"].to_pylist() == [text]


def test_a_row_longer_than_a_block_is_read_and_refused_by_name(sources):
    text = "x" * (2 * csv_file._BLOCK_BYTES + 1)
    sources.write(X_TEST, X_HEADER, f"7,{text},,200,910\n", "8,a,,201,911\n")
    with pytest.raises(BadSourceError, match=r"X_test.csv:2: designation is longer than"):
        source.read_test_set(sources.directory)


def test_labels_are_joined_by_index_whatever_their_order(sources):
    expected = sources.training_table()
    sources.write(Y_TRAIN, Y_HEADER, *reversed(Y_ROWS))
    assert sources.training_table().equals(expected)


def test_test_rows_carry_their_image_and_labels_where_there_are_some(sources):
    (row,) = source.read_test_set(sources.directory).to_pylist()
    assert row["image_path"] == "images/image_test/image_910_product_200.jpg"
    assert "prdtypecode" not in row
    sources.write(Y_TEST, Y_HEADER, "7,60\n")
    (row,) = source.read_test_set(sources.directory).to_pylist()
    assert row["prdtypecode"] == 60


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    # the first column is the index of the real files: a row without any value is an empty line
    rows=st.lists(st.tuples(texts.filter(bool), texts, texts), min_size=1, max_size=20),
    # Before Python 3.13, csv.QUOTE_MINIMAL leaves a carriage return bare that is no part of the line end.
    style=st.sampled_from(
        [("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_NONNUMERIC)]
    ),
)
def test_any_table_of_texts_is_read_back(tmp_path, rows, style):
    newline, quoting = style
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=newline, quoting=quoting)
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    path = tmp_path / "texts.csv"
    path.write_bytes(buffer.getvalue().encode())
    expected = [tuple(text or None for text in row) for row in rows]
    table = open_csv(path, ["a", "b", "c"]).whole().text
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == expected


def test_a_file_that_is_changed_after_it_was_checked_is_not_read_on(sources):
    training_set = sources.training_set()
    sources.write(X_TRAIN, X_HEADER, *X_ROWS[1:])
    with pytest.raises(SourceChangedError, match=r"X_train.csv has been changed while it was read"):
        training_set.rows(0, 3)


def test_rows_are_read_alike_wherever_the_file_is_cut(sources, monkeypatch):
    expected = sources.training_table()
    for name in ("_BLOCK_BYTES", "_SCANNED_BYTES"):
        for size in range(1, 100):
            monkeypatch.setattr(csv_file, name, size)
            assert sources.training_table().equals(expected), (name, size)
        monkeypatch.undo()


# ---- bad files: each is one problem, with file, line, value and remedy


@dataclass(frozen=True)
class Bad:
    """How a file is spoilt, and what is to be said about it."""

    file: str
    text: tuple[str | bytes, ...]
    line: int | None
    value: str
    reason: str
    remedy: str


def x_train(*rows: str | bytes, header: str = X_HEADER) -> tuple[str | bytes, ...]:
    return (header, *rows)


BAD_NUMBERS = [
    "1.0",
    "+1",
    "-1",
    " 1",
    "1 ",
    "1e3",
    "\u0661",
    "0x1",
    "abc",
    "1" * 19,
    "1" * 20,
    "1\n",
    "1,000",
]
NUMBER, REMOVE = "is not a whole number of at most", "correct the value in the source file"
BAD_FILES = {
    "empty": Bad(X_TRAIN, (), None, "", "file is empty", "fetch the file again"),
    "header only": Bad(X_TRAIN, (X_HEADER,), 1, "", "no rows below the header", "fetch the file again"),
    "header cut off": Bad(
        X_TRAIN, (X_HEADER.rstrip(),), 1, "", "no rows below the header", "fetch the file again"
    ),
    "missing column": Bad(
        X_TRAIN,
        x_train("0,a,b,100\n", header=",designation,description,productid\n"),
        1,
        ",designation,description,productid",
        "column 'imageid' is missing",
        "the header must name the columns",
    ),
    "missing index column": Bad(
        Y_TRAIN,
        ("index,prdtypecode\n", *Y_ROWS),
        1,
        "index,prdtypecode",
        "the unnamed index column is missing",
        "the header must name the columns",
    ),
    "column twice": Bad(
        Y_TRAIN,
        (",prdtypecode,prdtypecode\n", "0,1,1\n"),
        1,
        ",prdtypecode,prdtypecode",
        "column 'prdtypecode' appears 2 times",
        "the header must name the columns",
    ),
    "empty number": Bad(X_TRAIN, x_train(X_ROWS[0], "1,Livre,,,901\n", X_ROWS[2]), 6, "", NUMBER, REMOVE),
    "duplicate productid": Bad(
        X_TRAIN,
        x_train(*X_ROWS[:2], "2,Jeu,NA,100,902\n"),
        7,
        "100",
        "duplicate productid, first seen on line 2",
        "keep one of the rows",
    ),
    "duplicate index": Bad(
        X_TRAIN,
        x_train(*X_ROWS, "1,Jeu,NA,103,902\n"),
        8,
        "1",
        "duplicate index, first seen on line 6",
        "keep one of the rows",
    ),
    "duplicate index of a label": Bad(
        Y_TRAIN,
        (Y_HEADER, *Y_ROWS, "1,40\n"),
        5,
        "1",
        "duplicate index, first seen on line 3",
        "keep one of the rows",
    ),
    "index without a label": Bad(
        Y_TRAIN,
        (Y_HEADER, Y_ROWS[0], Y_ROWS[2]),
        6,
        "1",
        "index without a label",
        "add the row to Y_train.csv",
    ),
    "label without a row": Bad(
        Y_TRAIN, (Y_HEADER, *Y_ROWS, "9,40\n"), 5, "9", "label without a row", "add the row to X_train.csv"
    ),
    "latin-1": Bad(
        X_TRAIN,
        x_train(X_ROWS[0], "1,Théière,,101,901\n".encode("latin-1"), X_ROWS[2]),
        6,
        r"1,Th\xe9i\xe8re,,101,901" + "\n",
        "byte 0xe9 at position 4 is not UTF-8",
        "iconv -f latin1 -t utf-8 X_train.csv",
    ),
    "latin-1 in the header": Bad(
        Y_TRAIN,
        (",prdtypecode,catégorie\n".encode("latin-1"), "0,1,2\n"),
        1,
        ",prdtypecode,cat\\xe9gorie\n",
        "byte 0xe9 at position 16 is not UTF-8",
        "iconv",
    ),
    "UTF-16": Bad(
        Y_TRAIN,
        ((Y_HEADER + Y_ROWS[0]).encode("utf-16"),),
        1,
        r"\xff\xfe",
        "byte 0xff at position 0",
        "iconv",
    ),
    "cut in a character": Bad(
        X_TRAIN,
        x_train(*X_ROWS[:2], "2,Thé".encode()[:-1]),
        7,
        r"2,Th\xc3",
        "byte 0xc3 at position 4",
        "fetch",
    ),
    "cut in a row": Bad(
        X_TRAIN, x_train(*X_ROWS[:2], "2,Jeu,N"), 7, "2,Jeu,N", "3 fields where the header has 5", "truncated"
    ),
    "cut in an open quote": Bad(
        X_TRAIN, x_train(*X_ROWS[:2], '2,Jeu,"N'), 7, '2,Jeu,"N', "malformed quoting", "truncated"
    ),
    "cut in an open quote after a line end": Bad(
        X_TRAIN, x_train(*X_ROWS[:2], '2,Jeu,"N\n'), 7, '2,Jeu,"N', "malformed quoting", "truncated"
    ),
    "cut within the last number": Bad(
        X_TRAIN,
        x_train(*X_ROWS[:2], "2,Jeu,NA,102,90"),
        7,
        "2,Jeu,NA,102,90",
        "no line end",
        "fetch the file again",
    ),
    "cut within the last label": Bad(
        Y_TRAIN, (Y_HEADER, *Y_ROWS[:2], "2,4"), 4, "2,4", "no line end", "fetch the file again"
    ),
    "open quote in a last column of text": Bad(
        X_TRAIN,
        x_train(
            '100,900,0,a,"b\nc"\n',
            '101,901,1,a,"b\n',
            "102,902,2,a,b\n",
            header="productid,imageid,,designation,description\n",
        ),
        4,
        '101,901,1,a,"b',
        "malformed quoting",
        "close the quote",
    ),
    "a quote within a value that is not doubled": Bad(
        X_TRAIN,
        x_train(X_ROWS[0], '1,"le "petit" livre",,101,901\n', X_ROWS[2]),
        6,
        '1,"le "petit" livre",,101,901',
        "malformed quoting",
        'write a quote inside a value as ""',
    ),
    "NUL": Bad(
        X_TRAIN,
        x_train(X_ROWS[0], "1,Li\x00vre,,101,901\n", X_ROWS[2]),
        6,
        "Li\x00vre",
        "NUL character",
        "remove it",
    ),
    "too many fields": Bad(
        X_TRAIN,
        x_train(X_ROWS[0], "1,Livre,a, b,101,901\n", X_ROWS[2]),
        6,
        "1,Livre,a, b,101,901",
        "6 fields where the header has 5",
        "quote values that hold commas",
    ),
    "too few fields": Bad(
        X_TRAIN,
        x_train(X_ROWS[0], "1,Livre,101,901\n", X_ROWS[2]),
        6,
        "1,Livre,101,901",
        "4 fields where the header has 5",
        "quote values that hold commas or line ends",
    ),
    "blank line": Bad(X_TRAIN, x_train(X_ROWS[0], "\n", *X_ROWS[1:]), 6, "", "empty row", "remove it"),
    "blank line at the end": Bad(Y_TRAIN, (Y_HEADER, *Y_ROWS, "\n"), 5, "", "empty row", "remove it"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_file_line_value_and_remedy(sources, name):
    bad = BAD_FILES[name]
    sources.write(bad.file, *bad.text)
    problem = only_problem(sources.directory)
    expected_file = X_TRAIN if name == "index without a label" else bad.file
    assert (problem.file, problem.line) == (expected_file, bad.line)
    assert problem.value.startswith(bad.value)
    assert bool(problem.value) == bool(bad.value)
    assert bad.reason in problem.reason
    assert bad.remedy in problem.remedy


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_check_reports_is_what_reading_refuses(sources, name):
    bad = BAD_FILES[name]
    sources.write(bad.file, *bad.text)
    with pytest.raises(BadSourceError) as refused:
        sources.training_set()
    assert list(refused.value.problems) == check(sources.directory)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize(
    ("file", "column", "line"),
    [
        (X_TRAIN, "the index", 6),
        (X_TRAIN, "productid", 6),
        (X_TRAIN, "imageid", 6),
        (Y_TRAIN, "the index", 3),
        (Y_TRAIN, "prdtypecode", 3),
    ],
)
def test_a_bad_number_is_refused_with_its_line_and_value(sources, number, file, column, line):
    fields = {"the index": "1", "designation": "a", "description": "", "productid": "101", "imageid": "901"}
    if file == Y_TRAIN:
        fields = {"the index": "1", "prdtypecode": "40"}
    row = ",".join(f'"{number}"' if name == column else value for name, value in fields.items()) + "\n"
    header, rows = (X_HEADER, X_ROWS) if file == X_TRAIN else (Y_HEADER, Y_ROWS)
    sources.write(file, header, rows[0], row, rows[2])
    problem = only_problem(sources.directory)
    assert (problem.file, problem.line, problem.value) == (file, line, number)
    assert problem.reason.startswith(f"{column} {NUMBER}")
    assert REMOVE in problem.remedy


def test_an_unquoted_line_end_makes_two_rows_of_the_wrong_length(sources):
    sources.write(X_TRAIN, X_HEADER, X_ROWS[0], "1,Liv\nre,,101,901\n", X_ROWS[2])
    first, second = check(sources.directory)
    assert (first.line, first.value, first.reason) == (6, "1,Liv", "2 fields where the header has 5")
    assert (second.line, second.value, second.reason) == (7, "re,,101,901", "4 fields where the header has 5")


@pytest.mark.parametrize("name", [X_TRAIN, Y_TRAIN, X_TEST])
def test_a_missing_file_is_named_with_the_place_where_it_belongs(sources, name):
    (sources.directory / name).unlink()
    problem = only_problem(sources.directory)
    assert (problem.file, problem.line, problem.reason) == (name, None, "file is missing")
    assert str(sources.directory) in problem.remedy


def test_lines_are_right_after_line_ends_in_columns_that_are_not_read(sources):
    sources.write(
        X_TRAIN,
        ",designation,note,note,description,productid,imageid\n",
        '0,a,"é\n\n","\n",b,100,900\n',
        "1,a,,,b,x,901\n",
    )
    problem = only_problem(sources.directory)
    assert (problem.line, problem.value) == (6, "x")


def test_lines_are_right_below_a_header_of_two_lines(sources):
    sources.write(Y_TRAIN, ',prdtypecode,"a\nb"\n', "0,10,\n", "1,x,\n", "2,40,\n")
    problem = only_problem(sources.directory)
    assert (problem.line, problem.value) == (4, "x")


@pytest.mark.parametrize("row", ["1,a,,x,901\n", "1,a,101,901\n", b"1,\xe9,,101,901\n"])
def test_a_carriage_return_ends_a_line_whatever_is_wrong(sources, row):
    sources.write(X_TRAIN, X_HEADER, '0,"a\rb",,100,900\n', row)
    sources.write(Y_TRAIN, Y_HEADER, *Y_ROWS[:2])
    assert only_problem(sources.directory).line == 4


def test_a_column_that_is_not_read_must_be_utf8_too(sources):
    padding = "x" * 20_000  # beyond what Python decodes in order to read the header
    sources.write(X_TEST, "note," + X_HEADER, f",7,{padding},,200,910\n", b"\xe9,8,a,,201,911\n")
    problem = only_problem(sources.directory)
    assert (problem.line, problem.reason) == (3, "byte 0xe9 at position 0 is not UTF-8")


def test_a_missing_column_is_named_whatever_the_length_of_the_others(sources):
    csv.field_size_limit(131_072)  # Python's default, as at the start of a process
    sources.write(X_TEST, "x" * 140_000 + X_HEADER, "7,a,b,200,910\n")
    assert only_problem(sources.directory).reason == "the unnamed index column is missing"


def test_every_problem_of_every_file_is_reported(sources):
    sources.write(X_TRAIN, X_HEADER, "0,a,b,x,900\n", "1,a,b,101,y\n", "1,a\x00,b,101,902\n")
    (sources.directory / Y_TRAIN).unlink()
    sources.write(X_TEST, X_HEADER, "7,a,b\n", "8,a,b,200,910\n", "9,a,b,c,200,910\n")
    sources.write(Y_TEST, Y_HEADER, "7,-5\n")
    assert [(problem.file, problem.line, problem.value) for problem in check(sources.directory)] == [
        (X_TEST, 2, "7,a,b"),
        (X_TEST, 4, "9,a,b,c,200,910"),
        (X_TRAIN, 2, "x"),
        (X_TRAIN, 3, "y"),
        (X_TRAIN, 4, "a\x00"),
        (X_TRAIN, 4, "1"),
        (X_TRAIN, 4, "101"),
        (Y_TEST, 2, "-5"),
        (Y_TRAIN, None, ""),
    ]


def test_a_third_row_of_the_same_product_is_reported_too(sources):
    rows = [f"{index},a,b,100,900\n" for index in range(3)]
    sources.write(X_TRAIN, X_HEADER, *rows)
    assert [problem.line for problem in check(sources.directory)] == [3, 4]


def test_the_report_is_readable_and_not_endless(sources):
    sources.write(X_TRAIN, X_HEADER, *(f"{index},a,b,{'9' * 200},900\n" for index in range(50)))
    with pytest.raises(BadSourceError) as refused:
        sources.training_set()
    message = str(refused.value)
    assert len(refused.value.problems) == 50
    assert "50 problems in the source files; nothing was loaded" in message
    assert "X_train.csv:2: productid is not a whole number" in message
    assert "30 more" in message
    assert "9" * 100 not in message


def test_a_fingerprint_is_the_sha256_of_a_file(sources):
    sources.write(X_TRAIN, "abc")
    found = source.fingerprints(sources.directory)
    assert found[X_TRAIN] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert set(found) == {X_TRAIN, Y_TRAIN, X_TEST}


# ---- which rows arrive when, and which are held out


def test_the_order_of_the_files_decides_nothing(generated, shuffled):
    one = source.read_training_set(generated, SEED, HOLDOUT)
    other = source.read_training_set(shuffled, SEED, HOLDOUT)
    assert not one.table.equals(other.table)
    assert one.rows(0, one.total_rows).equals(other.rows(0, other.total_rows))
    assert one.holdout().equals(other.holdout())


def test_ranks_are_a_permutation(generated):
    training_set = source.read_training_set(generated, SEED, HOLDOUT)
    rows = training_set.rows(0, training_set.total_rows)
    assert rows["sample_rank"].to_pylist() == list(range(training_set.total_rows))
    assert sorted(rows["productid"].to_pylist()) == sorted(training_set.table["productid"].to_pylist())
    assert len(set(rows["productid"].to_pylist())) == training_set.total_rows


def test_rows_of_a_range_of_ranks_are_a_slice_of_all(generated):
    training_set = source.read_training_set(generated, SEED, HOLDOUT)
    everything = training_set.rows(0, training_set.total_rows)
    assert training_set.rows(240, 258).equals(everything.slice(240, 18))
    assert training_set.rows(5, 5).num_rows == 0


def test_another_seed_draws_another_order_and_another_holdout(generated):
    one = source.read_training_set(generated, SEED, HOLDOUT)
    other = source.read_training_set(generated, SEED + 1, HOLDOUT)
    assert not np.array_equal(one.order, other.order)
    assert one.holdout()["productid"].to_pylist() != other.holdout()["productid"].to_pylist()


def test_the_holdout_holds_its_share_and_nothing_else(generated):
    training_set = source.read_training_set(generated, SEED, HOLDOUT)
    holdout = training_set.holdout()
    assert set(holdout["split"].to_pylist()) == {"holdout"}
    assert 0.05 < holdout.num_rows / training_set.total_rows < 0.15


@pytest.mark.parametrize("percentage", [1, 10, 33, 50])
def test_the_share_of_held_out_texts_is_near_the_percentage(percentage):
    texts = [f"product {number}" for number in range(20_000)]
    rows = pa.table({"designation": texts, "description": [None] * len(texts)})
    share = source.is_holdout(rows, SEED, percentage).mean()
    assert abs(share - percentage / 100) < 0.02


def test_a_larger_holdout_contains_the_smaller(generated):
    table = in_file_order(source.read_training_set(generated, SEED, HOLDOUT))
    smaller, larger = (source.is_holdout(table, SEED, percentage) for percentage in (10, 20))
    assert not (smaller & ~larger).any()
    assert larger.sum() > smaller.sum()


def test_near_identical_texts_never_straddle_the_split(generated):
    rows = in_file_order(source.read_training_set(generated, SEED, HOLDOUT))
    shouted = rows.set_column(
        rows.column_names.index("designation"),
        "designation",
        pa.array([f"<b>{text.upper()}</b> !" for text in rows["designation"].to_pylist()]),
    )
    assert np.array_equal(source.is_holdout(rows, SEED, HOLDOUT), source.is_holdout(shouted, SEED, HOLDOUT))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Théière", "THEIERE"),
        ("Théière", "The\u0301ie\u0300re"),  # composed or not
        ("Jeu de société", "jeu  de\tsociété !"),
        ("<p>Vase <b>bleu</b></p>", "vase bleu"),
        ("Th&eacute;i&#232;re &amp; tasse", "théière, tasse"),
        ("&lt;br&gt;Vase", "vase"),
        ("Straße", "STRASSE"),
        ("Lego™", "LegoTM"),
        ("Lego™", "lego™"),
        ("ﬁlm n°5", "Film N°5"),
        ("vase_bleu", "vase-bleu"),
        ("", None),
        ("...", None),
        ("vase &#1114112; bleu", "vase bleu"),  # no such character
        (f"vase &#{'1' * 4_301}; bleu", "vase bleu"),  # nor a number that Python reads
    ],
)
def test_near_identical_texts_are_one_group(one, other):
    assert text_group(one, "x") == text_group(other, "x")
    assert text_group("x", one) == text_group("x", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("vase", None), (None, "vase")),
        (("vase bleu", None), ("vase", "bleu")),
        (("vase bleu", None), ("vasebleu", None)),
        (("vase 1", None), ("vase 2", None)),
        (("a < b", None), ("a", None)),
        (("茶", None), ("壺", None)),
    ],
)
def test_different_texts_are_different_groups(one, other):
    assert text_group(*one) != text_group(*other)


@given(st.none() | st.text(), st.none() | st.text())
def test_any_text_has_a_group_that_case_does_not_change(designation, description):
    group = text_group(designation, description)
    assert group.encode()
    assert group.count("\n") == 1


def fold_plainly(text: str) -> str:
    """The definition of a text's group, a pattern at a time over the whole text."""
    try:
        plain = html.unescape(text)
    except ValueError:
        plain = html.unescape(re.sub(r"&#[0-9]{4301,};?", "\N{REPLACEMENT CHARACTER}", text))
    plain = unicodedata.normalize("NFKD", re.sub(r"<[^<>]*>", " ", plain))
    return re.sub(r"[\W_]+", " ", re.sub(r"[\u0300-\u036f]+", "", plain).casefold()).strip()


def test_every_character_is_folded_as_the_definition_says():
    """Alone and between others, so that what is folded character by character is what is folded as a whole."""
    for code in range(0x20000):  # beyond lie ideographs, and what has no meaning yet
        text = f"a{chr(code)}É{chr(code)}"
        assert text_group(text, None) == f"{fold_plainly(text)}\n", hex(code)


characters = st.sampled_from([*"éß™½œµ★λİﬁ茶_ \n\x81\x85", "e\u0301", "\u0591\u0301"])
markup = st.sampled_from(
    "&eacute; &amp &#233 &#x2605; & ; <b> < > <a href='é'> Thé BLEU 5".split(" ")  # noqa: SIM905
)


@given(st.lists(characters | markup | st.text(max_size=5), max_size=20).map("".join))
def test_any_text_is_folded_as_the_definition_says(text):
    assert text_group(text, None) == f"{fold_plainly(text)}\n"
