"""A source file that is bad in any way is refused whole, with file, line, value and remedy."""

from dataclasses import dataclass

import pytest
from source_files import X_HEADER, X_ROWS, Y_HEADER, Y_ROWS, only_problem

from db.source.training_set import X_TRAIN, Y_TRAIN, check_source
from shared.errors import BadSourceError


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
        "iconv -f WINDOWS-1252 -t UTF-8 < ",
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
        None,
        "",
        "the file is UTF-16, and not UTF-8",
        "iconv -f UTF-16 -t UTF-8 < ",
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
    assert list(refused.value.problems) == check_source(sources.directory)
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
