"""Recognise a file that is not the CSV that the pipeline reads, and give the command that converts the file.

Three things are recognised: another kind of file (for example gzip), another encoding of characters, another separator of columns.
"""

import codecs
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Final

from shared.errors import Problem

FETCH_AGAIN: Final = "fetch the file again and compare its size with the original"
LET_READ: Final = "let the user who runs this command read the file and its folder (chmod, chown)"

# For each kind of file: the bytes with which the file begins, and the command that writes the file's content to standard output.
_COMPRESSED: Final = {
    "gzip": (b"\x1f\x8b", "gzip -dc"),
    "bzip2": (b"BZh", "bzip2 -dc"),
    "xz": (b"\xfd7zXZ\0", "xz -dc"),
    "zstd": (b"\x28\xb5\x2f\xfd", "zstd -dc"),
}
_UTF_16_AND_32: Final = {
    "UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"),
    "UTF-16": (b"\xff\xfe", b"\xfe\xff"),
}
_WITHOUT_MARK: Final = (
    "UTF-16BE",
    "UTF-16LE",
)  # every other byte of an ASCII character is zero: the first, or the second
_EXCEL: Final = ("this is an Excel workbook", 'open it, and save it as "CSV UTF-8 (comma delimited)"')
_PAGE: Final = ("this is a web page", "log in to the site, then download the file again")
_NOT_CSV: Final = {
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
    b"version https://git-lfs": ("this is a pointer of Git LFS", "run `git lfs pull` in its repository"),
    b"\xd0\xcf\x11\xe0": _EXCEL,
    b"sep=": ("line 1 is a note for Excel", "delete line 1"),
}
_EXTRACT: Final = (
    "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.stdin.buffer).read(sys.argv[1]))"
)
_SEPARATE_BY_COMMA: Final = (
    "import csv; csv.field_size_limit(2**31 - 1); "
    'rows = csv.reader(open(0, encoding="utf-8-sig", newline=""), delimiter={separator}); '
    'csv.writer(open(1, "w", encoding="utf-8", newline=""), lineterminator="\\n").writerows(rows)'
)
# The encodings of French texts that are not Unicode, by the name that iconv knows, with the name that Python knows.
# Windows-1252 comes first: every printable character of latin1 has the same byte in it.
_ENCODINGS: Final = {
    "WINDOWS-1252": "cp1252",
    "ISO-8859-15": "iso8859-15",
    "MACINTOSH": "mac_roman",
    "CP850": "cp850",
}
# What French texts hold besides ASCII. The letters beside a character tell whether it is meant: in French, two letters with
# accents seldom follow each other. A byte that stands for œ in one encoding stands for ½ in another.
_LETTER: Final = r"[^\W\d_]"
_FRENCH: Final = re.compile(
    r"(?<![^\W\d_a-zA-Z])[àâäçéèêëîïôöùûüñÀÂÄÇÉÈÊËÎÏÔÖÙÛÜ]"
    rf"|(?<={_LETTER})[œŒ]|[œŒ](?={_LETTER})|(?<!{_LETTER})[½¼¾](?!{_LETTER})"
    r"|[’‘“”«»–—…•€°®™©²³×\xa0]"  # noqa: RUF001  these quotes and dashes are meant
)


def foreign_format(path: Path) -> Problem | None:
    """Return the problem of a file that is empty, compressed or no text, or whose encoding is not based on ASCII; else None."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return _problem(path, "file is empty", FETCH_AGAIN)
    if (problem := decompress(path, path)) is not None:
        return problem
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for mark, (reason, remedy) in _NOT_CSV.items():
        if start.startswith(mark):
            return _problem(path, reason, remedy)
    encodings = [name for name, marks in _UTF_16_AND_32.items() if head.startswith(marks)]
    encodings += [name for first, name in enumerate(_WITHOUT_MARK) if not head[first::2].strip(b"\0")]
    if len(head) > 1 and encodings:
        reason = f"the file is {encodings[0]}, and not UTF-8"
        return _problem(path, reason, _iconv(path, encodings[0]))
    return None


def decompress(path: Path, target: Path) -> Problem | None:
    """Return the problem of a compressed file, with the command that writes its content to `target`; else None."""
    with path.open("rb") as file:
        head = file.read(8)
    for kind, (mark, command) in _COMPRESSED.items():
        if head.startswith(mark):
            return _problem(path, f"the file is compressed with {kind}", _convert(command, path, target))
    if not head.startswith(b"PK\x03\x04"):
        return None
    if not zipfile.is_zipfile(path):
        return _problem(path, "the file is the beginning of a zip archive", FETCH_AGAIN)
    names = zipfile.ZipFile(path).namelist()
    if "[Content_Types].xml" in names:
        return _problem(path, *_EXCEL)
    files = [name for name in names if name.lower().endswith(".csv") and not name.startswith("__MACOSX/")]
    if len(files) == 1:
        command = f"python3 -c {quote(_EXTRACT)} {quote(files[0])}"
        return _problem(path, "the file is a zip archive", _convert(command, path, target))
    held = ", ".join(files or names)
    return _problem(
        path, f"the file is a zip archive of {held}", f"extract the file that belongs to {target}"
    )


def encoding_problems(path: Path) -> Iterator[Problem]:
    """Yield the problems of a file that is not UTF-8: one for the whole file, or one for each line if most lines are UTF-8."""
    bad: list[tuple[int, bytes, UnicodeDecodeError]] = []
    decoded = 0  # the lines that have other characters than ASCII, and are UTF-8
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            line.decode()
            decoded += not line.isascii()
        except UnicodeDecodeError as error:
            bad.append((number, line, error))
    if not bad:
        return
    if all(error.reason == "unexpected end of data" for _, _, error in bad):
        yield from (_undecodable(path, line, "", FETCH_AGAIN) for line in bad)
    elif decoded * 10 >= len(bad):
        remedy = "write this line again in UTF-8; most lines are UTF-8, so do not convert the whole file with iconv"
        yield from (_undecodable(path, line, "", remedy) for line in bad)
    elif (encoding := _likeliest_encoding(b"".join(line for _, line, _ in bad))) is not None:
        yield _undecodable(path, bad[0], f", but probably {encoding}", _iconv(path, encoding))
    else:
        remedy = "save the file as UTF-8 with the program that wrote it"
        yield _undecodable(path, bad[0], ", and its encoding is not known", remedy)


def separator_problem(path: Path, columns: Sequence[str], names: dict[str, Sequence[str]]) -> Problem | None:
    """Return the problem of a file whose columns are not separated by commas, or None if commas separate them.

    `names` maps each separator, such as ";", to the column names that result if it separates the header.
    """
    likeliest = max(names, key=lambda separator: len(set(columns) & set(names[separator])))
    if likeliest == ",":
        return None
    code = _SEPARATE_BY_COMMA.format(separator=json.dumps(likeliest))
    reason = f"the columns are separated by {likeliest!r}, and not by commas"
    return Problem(path.name, 1, "", reason, _convert(f"python3 -c {quote(code)}", path, path))


def _likeliest_encoding(text: bytes) -> str | None:
    """Return the encoding in which most bytes beyond ASCII are characters of French texts, or None if there is none."""
    best, most = None, sum(byte > 0x7F for byte in text) // 2  # noqa: PLR2004  the last byte of ASCII
    for name, codec in _ENCODINGS.items():
        try:
            found = len(_FRENCH.findall(text.decode(codec)))
        except UnicodeDecodeError:
            continue
        if found > most:
            best, most = name, found
    return best


def _undecodable(path: Path, line: tuple[int, bytes, UnicodeDecodeError], guess: str, remedy: str) -> Problem:
    number, text, error = line
    around = text[max(0, error.start - 20) : error.start + 20].decode(errors="backslashreplace")
    reason = f"byte 0x{text[error.start]:02x} at position {error.start} is not UTF-8{guess}"
    return Problem(path.name, number, around, reason, remedy)


def _iconv(path: Path, encoding: str) -> str:
    return _convert(f"iconv -f {encoding} -t UTF-8", path, path)


def _convert(command: str, path: Path, target: Path) -> str:
    """Return a shell command that writes to `target` what `command` makes of a file. The two paths may be the same."""
    converted = quote(str(target.with_name(f".{target.name}.converted")))
    return f"{command} < {quote(str(path))} > {converted} && mv {converted} {quote(str(target))}"


def _problem(path: Path, reason: str, remedy: str) -> Problem:
    return Problem(path.name, None, "", reason, remedy)
