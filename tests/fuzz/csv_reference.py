"""The rules of data/README.md a second time: slowly, with Python's csv module and nothing of the pipeline's.

What the reader accepts must read the same here, and what it refuses must be wrong here, on the same lines.
"""

import csv
import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

PRODUCTS = {"": 18, "productid": 18, "imageid": 18, "designation": None, "description": None}
LABELS = {"": 18, "prdtypecode": 9}

Row = dict[str, str | int | None]
Lines = set[int | None]


@dataclass
class Wrong:
    """The lines of a file that must be reported, and those that may be: a step that finds something ends the search."""

    must: Lines
    may: Lines = field(default_factory=set)


def read(files: Mapping[str, bytes], products: str, labels: str | None) -> list[Row] | dict[str, Wrong]:
    """The rows of a file of products in its order, with their labels; or what is wrong, by file."""
    names = {products: PRODUCTS} | ({labels: LABELS} if labels else {})
    found = {name: _read_file(files.get(name, b""), columns) for name, columns in names.items()}
    wrong = {name: one for name, one in found.items() if isinstance(one, Wrong)}
    if wrong or labels is None:
        return wrong or list(found[products].values())
    by_index = {row[""]: row["prdtypecode"] for row in found[labels].values()}
    unmatched = {line for line, row in found[products].items() if row[""] not in by_index}
    indexes = {row[""] for row in found[products].values()}
    unused = {line for line, row in found[labels].items() if row[""] not in indexes}
    if unmatched or unused:
        return {name: Wrong(lines) for name, lines in ((products, unmatched), (labels, unused)) if lines}
    return [row | {"prdtypecode": by_index[row[""]]} for row in found[products].values()]


def _read_file(data: bytes, columns: Mapping[str, int | None]) -> dict[int, Row] | Wrong:
    """The named columns of each row, by the line on which it begins."""
    if not data:
        return Wrong({None})
    rows, malformed = _split(data.decode("utf-8-sig", errors="replace"))
    header = rows.pop(1, [])
    misshapen = _shape(data, columns, header, rows, malformed)
    if misshapen:
        return misshapen
    named = {line: dict(zip(header, row, strict=True)) for line, row in rows.items()}
    return _typed({line: {column: row[column] or None for column in columns} for line, row in named.items()})


def _shape(
    data: bytes, columns: Iterable[str], header: list[str], rows: dict[int, list[str]], malformed: Lines
) -> Wrong | None:
    """Why these are not rows of these columns, if they are not."""
    bad_header = {1} if any(header.count(column) != 1 for column in columns) else set()
    not_utf8 = {number for number, line in enumerate(data.splitlines(), 1) if not _is_utf8(line)}
    if not_utf8:  # comes to light before or after a bad header, depending on where it is
        # A file in another encoding, or of another kind, has one problem for all its lines.
        may = not_utf8 | bad_header | {None}
        return Wrong(set(), may) if bad_header else Wrong({min(not_utf8)}, may)
    if bad_header or not (rows or malformed):
        return Wrong(set(), {1, None}) if bad_header else Wrong({1})
    empty = {line for line, row in rows.items() if not any(row)}
    not_rectangular = malformed | {line for line, row in rows.items() if len(row) != len(header)}
    if not_rectangular:
        return Wrong(not_rectangular, empty)
    if empty:
        return Wrong(empty)
    if data[-1:] not in {b"\r", b"\n"}:
        return Wrong({max(rows)})
    return None


def _split(text: str) -> tuple[dict[int, list[str]], Lines]:
    """The rows by line, and the line of the row that ends all reading, if there is one."""
    csv.field_size_limit(sys.maxsize)
    rows, begins = {}, 1
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            rows[begins] = row
            begins = reader.line_num + 1
    except csv.Error:
        return rows, {begins}
    finally:
        csv.field_size_limit(131_072)  # Python's default: the reader has to raise it for itself
    return rows, set()


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _typed(rows: dict[int, Row]) -> dict[int, Row] | Wrong:
    wrong: Lines = set()
    seen: set[tuple[str, int]] = set()
    for line, row in rows.items():
        for column, digits in (PRODUCTS | LABELS).items():
            value = row.get(column, "")
            if digits and column in row:
                value = value or ""
                if not (value.isascii() and value.isdigit() and len(value) <= digits):
                    wrong.add(line)
                    continue
                row[column] = int(value)
                if column in {"", "productid"}:
                    wrong |= {line} if (column, int(value)) in seen else set()
                    seen.add((column, int(value)))
            elif "\x00" in (value or ""):
                wrong.add(line)
    return Wrong(wrong) if wrong else rows
