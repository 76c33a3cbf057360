"""A user who does what the remedy of a problem says gets further: the file is accepted, or the problem is gone."""

import io
import zipfile

import pytest
from source_files import X_HEADER, X_ROWS, Y_HEADER, Y_ROWS

from db.source.synthetic import generate
from db.source.training_set import X_TRAIN, Y_TRAIN, check_source
from shared.errors import BadInputError, SourceChangedError


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in names:
            made.writestr(name, "")
    return buffer.getvalue()


LONG = "x" * 100_001
WHOLE = (X_HEADER, *X_ROWS)
# What the remedy says, the file, its bad text, and its text after the remedy was followed.
FILES = {
    "fetch again, empty": ("fetch the file again", X_TRAIN, (), WHOLE),
    "fetch again, cut in a character": ("fetch the file again", X_TRAIN, (*WHOLE, "3,Thé".encode()[:-1]), WHOLE),
    "end with a newline": ("if it is whole, end it with a newline", Y_TRAIN, (Y_HEADER, *Y_ROWS[:2], "2,40"), (Y_HEADER, *Y_ROWS)),
    "name the columns": ("the header must name the columns ,prdtypecode", Y_TRAIN, ("id,code\n", *Y_ROWS), (Y_HEADER, *Y_ROWS)),
    "remove an empty row": ("remove it", X_TRAIN, (*WHOLE, "\n"), WHOLE),
    "remove a NUL": ("remove it: PostgreSQL cannot", X_TRAIN, (X_HEADER, "0,a\0,,100,9\n", *X_ROWS[1:]), (X_HEADER, "0,a,,100,9\n", *X_ROWS[1:])),
    "shorten": ("shorten it", X_TRAIN, (X_HEADER, f"0,{LONG},,100,9\n", *X_ROWS[1:]), (X_HEADER, f"0,{LONG[1:]},,100,9\n", *X_ROWS[1:])),
    "double a quote": ('write a quote inside a value as ""', X_TRAIN, (X_HEADER, '0,"a "b" c",,100,9\n', *X_ROWS[1:]), (X_HEADER, '0,"a ""b"" c",,100,9\n', *X_ROWS[1:])),
    "close a quote": ("close the quote", X_TRAIN, (X_HEADER, *X_ROWS[:2], '2,"a,,102,9\n'), (X_HEADER, *X_ROWS[:2], '2,"a",,102,9\n')),
    "quote commas": ("quote values that hold commas", X_TRAIN, (X_HEADER, "0,a, b,,100,9\n", *X_ROWS[1:]), (X_HEADER, '0,"a, b",,100,9\n', *X_ROWS[1:])),
    "quote line ends": ("or line ends", X_TRAIN, (X_HEADER, "0,a\nb,,100,9\n", *X_ROWS[1:]), (X_HEADER, '0,"a\nb",,100,9\n', *X_ROWS[1:])),
    "correct a value": ("correct the value in the source file", X_TRAIN, (X_HEADER, "0,a,,x,9\n", *X_ROWS[1:]), (X_HEADER, "0,a,,100,9\n", *X_ROWS[1:])),
    "keep one row": ("keep one of the rows", Y_TRAIN, (Y_HEADER, *Y_ROWS, "2,50\n"), (Y_HEADER, *Y_ROWS)),
    "add a row": ("add the row to Y_train.csv", Y_TRAIN, (Y_HEADER, *Y_ROWS[1:]), (Y_HEADER, *Y_ROWS)),
    "remove a row": ("or remove this one", Y_TRAIN, (Y_HEADER, *Y_ROWS, "9,10\n"), (Y_HEADER, *Y_ROWS)),
    "extract": ("extract the file that belongs to", X_TRAIN, archive("a.csv", "b.csv"), WHOLE),
    "log in": ("log in to the site", X_TRAIN, "<html>", WHOLE),
    "fetch from LFS": ("run `git lfs pull`", X_TRAIN, "version https://git-lfs.github.com/spec/v1\n", WHOLE),
    "save as CSV": ('save it as "CSV UTF-8', X_TRAIN, archive("[Content_Types].xml"), ("\ufeff", *WHOLE)),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_accepted_after_its_remedy_was_followed(sources, case):
    remedy, name, bad, good = FILES[case]
    sources.write(name, *([bad] if isinstance(bad, (str, bytes)) else bad))
    problems = check_source(sources.directory)
    assert problems
    assert all(remedy in problem.remedy for problem in problems)
    sources.write(name, *good)
    assert check_source(sources.directory) == []


def test_a_row_that_is_removed_from_both_files_is_no_problem_any_more(sources):
    sources.write(X_TRAIN, X_HEADER, "0,a,,x,9\n", *X_ROWS[1:])
    [problem] = check_source(sources.directory)
    assert "or remove the row from X and Y" in problem.remedy
    sources.write(X_TRAIN, X_HEADER, *X_ROWS[1:])
    sources.write(Y_TRAIN, Y_HEADER, *Y_ROWS[1:])
    assert check_source(sources.directory) == []


@pytest.mark.parametrize("way", ["put", "name"])
def test_a_missing_file_is_found_where_the_remedy_wants_it(sources, tmp_path, way):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (sources.directory / X_TRAIN).rename(elsewhere / X_TRAIN)
    [problem] = check_source(sources.directory)
    assert f"put it into {sources.directory}, or name its folder" in problem.remedy
    if way == "put":
        (elsewhere / X_TRAIN).rename(sources.directory / X_TRAIN)
        assert check_source(sources.directory) == []
    else:
        for path in sources.directory.glob("*.csv"):
            path.rename(elsewhere / path.name)
        assert check_source(elsewhere) == []


def test_data_are_generated_after_the_numbers_were_put_right(tmp_path):
    with pytest.raises(BadInputError) as refused:
        generate(tmp_path, 26)
    assert "ask for 27 (" in refused.value.remedy
    with pytest.raises(BadInputError) as refused:
        generate(tmp_path, 27, test_rows=-1)
    assert "ask for 0 to" in refused.value.remedy
    assert generate(tmp_path, 27, test_rows=0) == 0


def test_a_file_that_was_restored_is_read_by_the_next_try(sources):
    training_set = sources.training_set()
    sources.write(X_TRAIN, X_HEADER, *X_ROWS[1:])
    with pytest.raises(SourceChangedError, match="restore the original, then try again"):
        training_set.rows(0, 3)
    sources.write(X_TRAIN, *WHOLE)
    assert sources.training_set().rows(0, 3).num_rows == 3
