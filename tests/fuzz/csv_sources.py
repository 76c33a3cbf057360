"""Sets of source files, good and spoilt: by rows and columns, by bytes, or nothing but bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Files = dict[str, bytes]
Table = list[list[str]]
Draw = Callable[[st.SearchStrategy], Any]

X_TRAIN, Y_TRAIN, X_TEST, Y_TEST = "X_train.csv", "Y_train.csv", "X_test.csv", "Y_test.csv"
X_HEADER = ["", "designation", "description", "productid", "imageid"]
Y_HEADER = ["", "prdtypecode"]
CODES = ["10", "40", "50", "2583"]

TEXTS = [
    *("", "", "Livre", "NA", "None", "NaN", "null", " ", "0", "=1+1", "+33 1", "\\N", "\\.", "\\", "'", "`", "%s", "{}"),
    *("a,b", ",", '"', '""', 'dit "oui"', "a\nb", "a\r\nb", "a\rb", "\n", "\r\n", "\n\\.\n", "\t", ";", "|"),
    *("<p>Th&eacute;i&#232;re</p>", "<b", "&#xD800;", "&#0;", "&#1114112;", "&#" + "9" * 5000 + ";", "&" * 40, "<" * 40),
    *("Th\u00e9", "The\u0301", "\u212b", "\ufb01lm", "🎲 🫖", "👨‍👩‍👧", "漢字", "\u0661", "\ufeff", "\u2028", "\x85", "\x0b\x0c\x1c"),
    *("\x1b[2J", "\x7f", "\ufffe", "\U0010ffff", "x" * 3000, "é" * 3000, '"' * 300, "a\r\n" * 100),
    *("'; drop table products; --", "=cmd|' /C calc'!A0", "../../etc/passwd", "<script>alert(1)</script>", "${jndi:x}"),
]  # fmt: skip
NUMBERS = [
    *("0", "7", "007", "0" * 18, "0" * 19, "9" * 9, "9" * 10, "9" * 18, "9" * 19, str(2**31), str(2**63), str(2**64)),
    *("", " ", " 7", "7 ", "7\n", "\r7", "+7", "-7", "-0", "7.0", "7.", "7e2", "0x7", "1_000", "1,000", "1;2", '"7"'),
    *("NaN", "inf", "null", "true", "\u0667", "\uff17", "\u00b2", "\ufeff7", "7\x00", "=7", "../7", "7/../7", "9" * 5000),
]  # fmt: skip
NAMES = ["index", "Designation", "a\nb", "a\rb", '"', "\x00", "\ufeff", "é", "x" * 140_000]  # of columns
NEWLINES = [b"\n", b"\r\n", b"\r"]
TOKENS = [
    *(b",", b"\n", b"\r", b"\r\n", b'"', b'""', b'",', b',"', b'"\n', b"\n\n", b"0", b"1", b"7", b"a", b" ", b"\t", b";"),
    *(b"\x00", b"\x1a", b"\x7f", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xc3", b"\xa9", b"\xe2\x82", b"\xed\xa0\x80"),
    *(b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x8e\xb2", b"\xc2\x85", b"\xe2\x80\xa8", b"\\.", b"\\N", b"NULL"),
    *(b",prdtypecode\n", b",designation,description,productid,imageid\n", b"0,10\n", b"0,a,b,100,900\n", b'0,"a\r\nb",,1,2\r\n'),
]  # fmt: skip


def write(directory: Path, files: Files) -> None:
    for name in (X_TRAIN, Y_TRAIN, X_TEST, Y_TEST):
        if name in files:
            (directory / name).write_bytes(files[name])
        else:
            (directory / name).unlink(missing_ok=True)


# ---- tables


@st.composite
def good_tables(draw: Draw) -> dict[str, Table]:
    """Three files, or four, whose values are of any kind that the rules allow."""
    anything = draw(st.text(max_size=8)).replace("\x00", "")
    texts = st.sampled_from([*TEXTS, *[anything] * 8])
    count, test_count = draw(st.integers(3, 12)), draw(st.integers(1, 2))
    tables = {}
    for products, labels, rows, first in ((X_TRAIN, Y_TRAIN, count, 0), (X_TEST, Y_TEST, test_count, 50)):
        indexes = [str(first + row) for row in range(rows)]
        values = draw(st.lists(texts, min_size=2 * rows, max_size=2 * rows))
        pairs = zip(values[::2], values[1::2], strict=True)
        ids = [[f"{100 + first + row}", f"{900 + row % 4}"] for row in range(rows)]
        tables[products] = [
            X_HEADER,
            *([index, *pair, *id_] for index, pair, id_ in zip(indexes, pairs, ids, strict=True)),
        ]
        tables[labels] = [Y_HEADER, *([index, CODES[row % 4]] for row, index in enumerate(indexes))]
    if draw(st.booleans()):
        del tables[Y_TEST]
    tables = {name: [list(row) for row in table] for name, table in tables.items()}
    if draw(st.booleans()):
        add_column(draw, tables[draw(st.sampled_from(sorted(tables)))])
    return tables


def _row(draw: Draw, table: Table) -> int:
    return draw(st.integers(0, len(table) - 1))


def _column(draw: Draw, table: Table) -> int:
    return draw(st.integers(0, max(0, min(map(len, table)) - 1)))


def drop_row(draw: Draw, table: Table) -> None:
    del table[_row(draw, table)]


def drop_rows(draw: Draw, table: Table) -> None:
    del table[_row(draw, table) :]


def repeat_row(draw: Draw, table: Table) -> None:  # the header too
    table.insert(_row(draw, table), list(table[_row(draw, table)]))


def move_row(draw: Draw, table: Table) -> None:
    table.insert(_row(draw, table), table.pop(_row(draw, table)))


def reverse_rows(draw: Draw, table: Table) -> None:
    table[1:] = table[:0:-1]


def drop_column(draw: Draw, table: Table) -> None:
    column = _column(draw, table)
    for row in table:
        del row[column : column + 1]


def repeat_column(draw: Draw, table: Table) -> None:
    column, at = _column(draw, table), _column(draw, table)
    for row in table:
        row[at:at] = row[column : column + 1]


def add_column(draw: Draw, table: Table) -> None:
    at, name, value = _column(draw, table), draw(st.sampled_from(NAMES)), draw(st.sampled_from(TEXTS))
    for number, row in enumerate(table):
        row.insert(at, value if number else name)


def swap_columns(draw: Draw, table: Table) -> None:
    one, other = _column(draw, table), _column(draw, table)
    for row in table:
        if row:
            row[one], row[other] = row[other], row[one]


def rename_column(draw: Draw, table: Table) -> None:
    if table[0]:
        table[0][_column(draw, table)] = draw(st.sampled_from(["", "productid", " productid", *NAMES]))


def lengthen_row(draw: Draw, table: Table) -> None:
    table[_row(draw, table)].append(draw(st.sampled_from(TEXTS)))


def shorten_row(draw: Draw, table: Table) -> None:
    del table[_row(draw, table)][-1:]


def empty_row(draw: Draw, table: Table) -> None:
    row = draw(st.sampled_from([[], [""], [" "], [""] * len(table[0])]))
    table.insert(draw(st.integers(0, len(table))), row)


def set_value(draw: Draw, table: Table) -> None:
    row = table[_row(draw, table)]
    if row:
        row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(NUMBERS) | st.sampled_from(TEXTS))


def set_number(draw: Draw, table: Table) -> None:
    row = table[_row(draw, table)]
    if row:
        row[draw(st.sampled_from([0, -2, -1])) % len(row)] = draw(st.sampled_from(NUMBERS))


def repeat_value(draw: Draw, table: Table) -> None:
    """Of another row of the same column."""
    column, one, other = _column(draw, table), table[_row(draw, table)], table[_row(draw, table)]
    one[column : column + 1] = other[column : column + 1]


def add_control_character(draw: Draw, table: Table) -> None:
    row = table[_row(draw, table)]
    if row:
        row[draw(st.integers(0, len(row) - 1))] += draw(st.sampled_from("\x00\x00\x01\x08\x1b\x1f\x7f\x85"))


TABLE_MUTATIONS = [
    *(drop_row, drop_rows, repeat_row, move_row, reverse_rows, lengthen_row, shorten_row, empty_row),
    *(drop_column, repeat_column, add_column, swap_columns, rename_column),
    *([set_value] * 2 + [set_number] * 3 + [repeat_value] * 2 + [add_control_character]),
]


@st.composite
def encoded(draw: Draw, tables: st.SearchStrategy[dict[str, Table]]) -> Files:
    """As bytes, in any style of writing CSV."""
    quote_all, newline = draw(st.booleans()), draw(st.sampled_from(NEWLINES)).decode()
    mark = draw(st.sampled_from(["", "\ufeff"]))

    def written(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if quote_all or set(value) & set(',"\r\n') else value

    return {
        name: (mark + "".join(",".join(map(written, row)) + newline for row in table)).encode()
        for name, table in draw(tables).items()
    }


@st.composite
def spoilt_tables(draw: Draw) -> dict[str, Table]:
    tables = draw(good_tables())
    for mutate in draw(st.lists(st.sampled_from(TABLE_MUTATIONS), max_size=4)):
        table = tables[draw(st.sampled_from(sorted(tables)))]
        if table:
            mutate(draw, table)
    return tables


# ---- bytes


def _position(draw: Draw, data: bytes) -> int:
    return draw(st.integers(0, len(data)))


def cut(draw: Draw, data: bytes) -> bytes:
    return data[: _position(draw, data)]


def cut_the_end(draw: Draw, data: bytes) -> bytes:
    return data[: -draw(st.integers(1, 40))]


def remove(draw: Draw, data: bytes) -> bytes:
    at = _position(draw, data)
    return data[:at] + data[at + draw(st.integers(1, 4)) :]


def insert(draw: Draw, data: bytes) -> bytes:
    at = _position(draw, data)
    return data[:at] + draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=3)) + data[at:]


def flip(draw: Draw, data: bytes) -> bytes:
    at = _position(draw, data)
    flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[at : at + 1])
    return data[:at] + flipped + data[at + 1 :]


def repeat(draw: Draw, data: bytes) -> bytes:
    at = _position(draw, data)
    return data[:at] + data[at : at + draw(st.integers(1, 60))] + data[at:]


def recode(draw: Draw, data: bytes) -> bytes:
    encodings = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "utf-7"]
    encoding = draw(st.sampled_from(encodings))
    return data.decode("utf-8", errors="replace").encode(encoding, errors="replace")


def empty(draw: Draw, data: bytes) -> bytes:
    return b""


BYTE_MUTATIONS = [cut, cut_the_end, repeat, recode, empty, *([remove] * 2 + [insert] * 2 + [flip] * 4)]


@st.composite
def spoilt_bytes(draw: Draw) -> Files:
    files = draw(encoded(good_tables()))
    for mutate in draw(st.lists(st.sampled_from(BYTE_MUTATIONS), min_size=1, max_size=3)):
        name = draw(st.sampled_from(sorted(files)))
        files[name] = mutate(draw, files[name])
    if draw(st.integers(0, 40)) == 0:
        del files[draw(st.sampled_from(sorted(files)))]
    return files


GOOD = {
    X_TRAIN: b",designation,description,productid,imageid\n0,a,b,100,900\n1,c,,101,901\n",
    Y_TRAIN: b",prdtypecode\n0,10\n1,40\n",
    X_TEST: b",designation,description,productid,imageid\n7,a,b,200,900\n",
}
HEADERS = {name: data.partition(b"\n")[0] + b"\n" for name, data in GOOD.items()}


@st.composite
def raw_bytes(draw: Draw) -> Files:
    """One file of nothing but bytes, with or without a header, beside good ones."""
    name = draw(st.sampled_from(sorted(GOOD)))
    body = b"".join(draw(st.lists(st.sampled_from(TOKENS) | st.binary(max_size=4), max_size=30)))
    return GOOD | {name: draw(st.sampled_from([HEADERS[name], b""])) + body}


@st.composite
def raw_fields(draw: Draw) -> Files:
    """Rows of the right length whose texts are written anyhow: each reader of CSV has its own idea of a stray quote."""
    pieces = st.sampled_from(
        [*(b'"', b'"', b'""'), *NEWLINES, b"\r\n" * 9, b"a", b" ", b"\xc3\xa9", b"\\", b"\x00"]
    )
    fields = st.lists(pieces, max_size=6).map(b"".join)
    texts = fields | fields.map(lambda field: b'"%b"' % field.replace(b'"', b'""'))
    rows = draw(st.lists(st.tuples(texts, texts, st.sampled_from(NEWLINES)), min_size=1, max_size=5))
    lines = [b"%d,%b,%b,%d,7%b" % (row, *texts, row, newline) for row, (*texts, newline) in enumerate(rows)]
    return GOOD | {X_TEST: HEADERS[X_TEST] + b"".join(lines)}


structured = encoded(spoilt_tables())
bytewise = spoilt_bytes()
