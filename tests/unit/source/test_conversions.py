"""A file that is in another format is named, and the command in its remedy makes the file that was meant."""

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import zipfile

import pytest
from source_files import X_HEADER, X_ROWS, Y_HEADER, Y_ROWS, Sources, only_problem

from db.source.training_set import X_TRAIN, Y_TRAIN, check_source

# ruff: noqa: RUF001  the quotes and dashes of French texts are meant
FRENCH = "1,L’œuvre “Été” — à 5 €,½ litre… déjà vu : Noël «ça»,101,901\n"
TEXT = "".join((X_HEADER, X_ROWS[0], FRENCH, X_ROWS[2]))
OTHERS = str.maketrans("’“”—…", "'''--", "€œ½")  # what older encodings do not have


@pytest.fixture
def sources(tmp_path) -> Sources:
    directory = tmp_path / "it's a folder"
    directory.mkdir()
    return Sources(directory)


def follow(remedy: str) -> None:
    """Do what a remedy says, if it is a shell command."""
    subprocess.run(remedy, shell=True, check=True, cwd="/")  # noqa: S602


def zipped(text: str, *names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, text.encode())
    return buffer.getvalue()


def zstd(text: str) -> bytes:
    return subprocess.run(["zstd", "-c"], input=text.encode(), capture_output=True, check=True).stdout  # noqa: S607


ENCODINGS = {
    "cp1252": ("WINDOWS-1252", TEXT),
    "latin1": ("WINDOWS-1252", TEXT.translate(OTHERS)),
    "iso8859-15": ("ISO-8859-15", TEXT.translate(str.maketrans("’“”—…", "'''--", "½"))),
    "mac_roman": ("MACINTOSH", TEXT.replace("½", "")),
    "cp850": ("CP850", TEXT.translate(OTHERS)),
    "utf-16": ("UTF-16", TEXT),
    "utf-16-le": ("UTF-16LE", TEXT),
    "utf-16-be": ("UTF-16BE", TEXT),
    "utf-32": ("UTF-32", TEXT),
}


@pytest.mark.parametrize("codec", ENCODINGS)
def test_another_encoding_is_named_and_its_command_converts_every_character(sources, codec):
    name, text = ENCODINGS[codec]
    sources.write(X_TRAIN, text.encode(codec))
    problem = only_problem(sources.directory)
    assert name in problem.reason
    follow(problem.remedy)
    assert (sources.directory / X_TRAIN).read_bytes().decode() == text
    assert check_source(sources.directory) == []


KINDS = {
    "gzip": lambda text: gzip.compress(text.encode()),
    "bzip2": lambda text: bz2.compress(text.encode()),
    "xz": lambda text: lzma.compress(text.encode()),
    "zstd": zstd,
    "zip": lambda text: zipped(text, "data/X train's.csv", "__MACOSX/data/._X_train.csv", "readme.txt"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [X_TRAIN, "x_train_update.csv.zip"])
def test_a_compressed_file_is_named_and_its_command_decompresses_it(sources, kind, name):
    if kind == "zstd" and not shutil.which("zstd"):
        pytest.skip("the program zstd is not installed")
    (sources.directory / X_TRAIN).unlink()
    sources.write(name, KINDS[kind](TEXT))
    problem = only_problem(sources.directory)
    assert kind in problem.reason
    follow(problem.remedy)
    assert check_source(sources.directory) == []
    assert (sources.directory / X_TRAIN).read_bytes() == TEXT.encode()


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("name", [X_TRAIN, Y_TRAIN])
def test_another_separator_is_named_once_and_its_command_converts_the_file(sources, separator, name):
    original = (sources.directory / name).read_bytes()
    rows = sources.training_table()
    text = original.decode()
    for row in (X_HEADER, Y_HEADER, *X_ROWS[1:], *Y_ROWS):
        text = text.replace(row, row.replace(",", separator))
    text = text.replace('0,"Vase, ""bleu""",', f'0{separator}"Vase, ""bleu"""{separator}')
    text = text.replace('",100,900', f'"{separator}100{separator}900')
    sources.write(name, text)
    problem = only_problem(sources.directory)
    assert problem.reason == f"the columns are separated by {separator!r}, and not by commas"
    follow(problem.remedy)
    assert sources.training_table().equals(rows)


def test_what_excel_writes_in_france_is_converted_step_by_step(sources):
    text = TEXT.translate(OTHERS).replace(",", ";").replace('"Vase;', '"Vase,')
    sources.write(X_TRAIN, ("sep=;\n" + text).encode("cp1252"))
    steps = []
    while problems := check_source(sources.directory):
        [problem] = problems
        steps.append(problem.reason)
        if problem.remedy == "delete line 1":
            path = sources.directory / X_TRAIN
            path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
        else:
            follow(problem.remedy)
        assert len(steps) < 5, steps
    assert len(steps) == 3


def test_a_few_lines_in_another_encoding_do_not_make_the_others_wrong(sources):
    rows = [f"{number},Théière,,{number + 100},901\n" for number in range(3)]
    sources.write(X_TRAIN, X_HEADER, rows[0], rows[1].encode("cp1252"), rows[2])
    problem = only_problem(sources.directory)
    assert problem.line == 3
    assert "do not convert the whole file" in problem.remedy
    sources.write(X_TRAIN, X_HEADER, *rows)
    assert check_source(sources.directory) == []


def test_an_encoding_that_nobody_knows_is_not_guessed(sources):
    sources.write(X_TRAIN, X_HEADER, X_ROWS[0], "1,Чайник заварочный,,101,901\n".encode("koi8-r"), X_ROWS[2])
    problem = only_problem(sources.directory)
    assert "its encoding is not known" in problem.reason
    sources.write(X_TRAIN, X_HEADER, X_ROWS[0], "1,Чайник заварочный,,101,901\n", X_ROWS[2])
    assert check_source(sources.directory) == []


OTHER_FILES = {
    "this is a web page": b"\xef\xbb\xbf\r\n<!DOCTYPE html><html>Log in</html>",
    "this is a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "this is an Excel workbook": zipped("", "[Content_Types].xml", "xl/workbook.xml"),
    "the file is a zip archive of X_train.csv, Y_train.csv": zipped(TEXT, "X_train.csv", "Y_train.csv"),
    "the file is the beginning of a zip archive": zipped(TEXT, "X_train.csv")[:50],
}


@pytest.mark.parametrize("reason", OTHER_FILES)
def test_a_file_that_is_no_csv_file_is_named(sources, reason):
    sources.write(X_TRAIN, OTHER_FILES[reason])
    assert only_problem(sources.directory).reason == reason
