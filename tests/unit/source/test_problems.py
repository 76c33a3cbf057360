"""What is wrong with the source files is reported with the right line, all at once, and readably."""

import csv
import json
import re
import shlex

import pytest
from source_files import X_HEADER, X_ROWS, Y_HEADER, Y_ROWS, only_problem
from typer.testing import CliRunner

from db.source import csv_file
from db.source.training_set import X_TEST, X_TRAIN, Y_TEST, Y_TRAIN, check_source, read_test_set
from rakuten import cli
from shared.errors import BadSourceError


@pytest.mark.parametrize("name", [X_TRAIN, Y_TRAIN, X_TEST])
def test_a_missing_file_is_named_with_the_place_where_it_belongs(sources, name):
    (sources.directory / name).unlink()
    problem = only_problem(sources.directory)
    assert (problem.file, problem.line, problem.reason) == (name, None, "file is missing")
    assert str(sources.directory) in problem.remedy


def test_a_text_beyond_all_measure_is_refused(sources):
    longest = "x" * 100_000
    sources.write(X_TRAIN, X_HEADER, f"0,{longest},{longest},100,900\n", *X_ROWS[1:])
    assert sources.training_set().total_rows == 3
    sources.write(X_TRAIN, X_HEADER, f"0,a,{longest}x,100,900\n", *X_ROWS[1:])
    with pytest.raises(BadSourceError, match=r"X_train.csv:2: description is longer than 100,000 characters"):
        sources.training_set()


def test_a_row_longer_than_a_block_is_read_and_refused_by_name(sources):
    text = "x" * (2 * csv_file._BLOCK_BYTES + 1)
    sources.write(X_TEST, X_HEADER, f"7,{text},,200,910\n", "8,a,,201,911\n")
    with pytest.raises(BadSourceError, match=r"X_test.csv:2: designation is longer than"):
        read_test_set(sources.directory)


# ---- the right line


def test_an_unquoted_line_end_makes_two_rows_of_the_wrong_length(sources):
    sources.write(X_TRAIN, X_HEADER, X_ROWS[0], "1,Liv\nre,,101,901\n", X_ROWS[2])
    first, second = check_source(sources.directory)
    assert (first.line, first.value, first.reason) == (6, "1,Liv", "2 fields where the header has 5")
    assert (second.line, second.value, second.reason) == (7, "re,,101,901", "4 fields where the header has 5")


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
    assert problem.line == 3
    assert problem.reason.startswith("byte 0xe9 at position 0 is not UTF-8")


def test_a_missing_column_is_named_whatever_the_length_of_the_others(sources):
    csv.field_size_limit(131_072)  # Python's default, as at the start of a process
    sources.write(X_TEST, "x" * 140_000 + X_HEADER, "7,a,b,200,910\n")
    assert only_problem(sources.directory).reason == "the unnamed index column is missing"


# ---- all of it


def test_every_problem_of_every_file_is_reported(sources):
    sources.write(X_TRAIN, X_HEADER, "0,a,b,x,900\n", "1,a,b,101,y\n", "1,a\x00,b,101,902\n")
    (sources.directory / Y_TRAIN).unlink()
    sources.write(X_TEST, X_HEADER, "7,a,b\n", "8,a,b,200,910\n", "9,a,b,c,200,910\n")
    sources.write(Y_TEST, Y_HEADER, "7,-5\n")
    assert [(problem.file, problem.line, problem.value) for problem in check_source(sources.directory)] == [
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
    assert [problem.line for problem in check_source(sources.directory)] == [3, 4]


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


def test_problems_are_summed_up_by_cause_and_the_most_frequent_cause_comes_first(sources):
    sources.write(X_TRAIN, X_HEADER, "0,a,b,x,900\n", *(f"{row},a,b\n" for row in range(1, 2_400)))
    sources.write(X_TEST, X_HEADER, "7,a,b,x,900\n", "8,a,b,y,900\n", "9,a,b,201,900\n")
    (sources.directory / Y_TRAIN).unlink()
    with pytest.raises(BadSourceError) as refused:
        sources.training_set()
    lines = str(refused.value).splitlines()
    assert lines[0] == "2,400 problems in the source files; nothing was loaded"
    assert lines[1] == "  2,399 x X_train.csv:3: 3 fields where the header has 5 (value: '1,a,b')"
    assert lines[3] == "  Y_train.csv: file is missing"
    assert len(lines) < 50


def test_the_command_that_lists_all_problems_lists_them(sources):
    sources.write(X_TRAIN, X_HEADER, *(f"{index},a,b,x,900\n" for index in range(50)))
    with pytest.raises(BadSourceError) as refused:
        sources.training_set()
    command = re.search(r"`rakuten (.*)` lists all", str(refused.value))
    assert command
    listed = CliRunner().invoke(cli.app, shlex.split(command.group(1)))
    assert len(json.loads(listed.stdout)) == 50
