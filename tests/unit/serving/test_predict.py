"""`rakuten predict --model`: it needs no server, and it writes all predictions or none."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from listeners.serving.model import ServedModel
from rakuten import cli
from shared.errors import BadInputError, BadProductsError, StageError

HEADER = ",designation,description,productid,imageid\n"
GOOD = f"{HEADER}7,piscine gonflable eau,,1,2\n0012,roman poche livre,un roman,3,4\n"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "X_test.csv"
    path.write_text(GOOD)
    return path


@pytest.fixture
def predict(folders, source):
    """Runs `rakuten predict` on the file with the first model, or with what `--model` names."""

    def run(*arguments):
        chosen = () if "--model" in arguments else ("--model", folders[1])
        return CliRunner().invoke(cli.app, [str(word) for word in ("predict", source, *arguments, *chosen)])

    return run


def test_the_predictions_have_the_challenge_s_format(predict, tmp_path, folders):
    printed, out = predict(), tmp_path / "predictions.csv"
    assert printed.stdout == ",prdtypecode\n7,2583\n0012,10\n"
    written = predict("--out", out)
    assert (written.stdout, out.read_bytes()) == ("", printed.stdout_bytes)
    for said in (printed.stderr, written.stderr):
        assert said.startswith(f"2 products predicted by {folders[1]}, ")
        assert said.endswith(" a second\n")


def test_the_probabilities_of_the_three_most_probable_classes(predict, models):
    texts = [("piscine gonflable eau", None), ("roman poche livre", "un roman")]
    expected = models[1].guesses(pd.DataFrame(texts, columns=["designation", "description"]))
    found = csv.DictReader(io.StringIO(predict("--probabilities").stdout))
    for row, guesses in zip(found, expected, strict=True):
        for prefix, guess in zip(("", "second_", "third_"), guesses, strict=True):
            assert int(row[f"{prefix}prdtypecode"]) == guess.prdtypecode
            assert row[f"{prefix}category"] == guess.category
            assert float(row[f"{prefix}probability"]) == guess.probability


def test_an_existing_file_is_kept_until_it_is_deleted(predict, tmp_path):
    out = tmp_path / "predictions.csv"
    out.write_text("mine")
    refused = predict("--out", out)
    assert isinstance(refused.exception, BadInputError)
    assert out.read_text() == "mine"
    out.unlink()
    assert predict("--out", out).exit_code == 0


def test_a_folder_that_cannot_be_written_to_is_named_until_another_is_chosen(predict, tmp_path):
    refused = predict("--out", tmp_path / "missing" / "predictions.csv")
    assert "missing/predictions.csv cannot be written: No such file or directory" in str(refused.exception)
    assert predict("--out", tmp_path / "predictions.csv").exit_code == 0


def test_after_an_error_there_is_no_half_file(predict, source, tmp_path, monkeypatch):
    source.write_text(HEADER + "".join(f"{index},livre,,1,2\n" for index in range(3000)))
    guesses, calls = ServedModel.guesses, []

    def fail_at_the_second_chunk(model, products):
        calls.append(len(products))
        if len(calls) == 3:  # the first call is for the model's own example
            raise MemoryError
        return guesses(model, products)

    monkeypatch.setattr(ServedModel, "guesses", fail_at_the_second_chunk)
    out = tmp_path / "predictions.csv"
    assert isinstance(predict("--out", out).exception, MemoryError)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "X_test.csv: file is empty"),
        (HEADER, "X_test.csv:1: no rows below the header"),
        (",designation\n1,a\n", "X_test.csv:1: column 'description' is missing (value: ',designation')"),
        (
            f"{GOOD}8a,x,,5,6\n",
            "X_test.csv:4: the index is not a whole number of at most 18 digits (value: '8a')",
        ),
        (f"{GOOD}7,x,,5,6\n", "X_test.csv:4: duplicate index, first seen on line 2 (value: '7')"),
        (f"{GOOD}8,a, b,,5,6\n", "X_test.csv:4: 6 fields where the header has 5 (value: '8,a, b,,5,6')"),
        (f'{GOOD}8,"a,,5,6\n', "X_test.csv:4: malformed quoting: unexpected end of data"),
        (f"{GOOD}8,a,,5", "X_test.csv:4: 4 fields where the header has 5"),
        (f"{GOOD}8,{'x' * 100_001},,5,6\n", "X_test.csv:4: designation is longer than 100,000 characters"),
    ],
)
def test_a_bad_file_is_refused_whole_with_the_line_and_the_value(predict, source, tmp_path, content, problem):
    source.write_text(content)
    out = tmp_path / "predictions.csv"
    refused = predict("--out", out)
    assert isinstance(refused.exception, BadProductsError)
    assert problem in str(refused.exception)
    assert (refused.stdout, out.exists()) == ("", False)
    source.write_text(GOOD)  # what each remedy asks for
    assert predict("--out", out).exit_code == 0


def test_json_lists_every_problem_of_a_file(predict, source):
    source.write_text(HEADER + "x,a,,1,2\n" * 30)
    assert "`rakuten predict" in str(predict().exception)
    refused = predict("--json")
    assert refused.exit_code == 2
    assert refused.stdout.count('"value": "x"') == 30


def test_a_file_needs_only_the_columns_that_a_prediction_needs(predict, source):
    source.write_text("designation,,description\nroman poche livre,5,\n")
    assert predict().stdout == ",prdtypecode\n5,10\n"


def test_a_missing_file_is_a_clear_error(predict, source):
    source.unlink()
    refused = predict()
    assert refused.exit_code == 2
    assert "X_test.csv' does not exist" in refused.stderr


@pytest.mark.parametrize("name", ["nowhere", "models:/nobody/3", "elsewhere:/model"])
def test_a_model_that_does_not_exist_is_named_until_another_is_given(predict, folders, name):
    refused = predict("--model", name)
    assert isinstance(refused.exception, BadInputError)
    assert f"--model {name}: " in str(refused.exception)
    assert refused.stdout == ""
    assert predict("--model", folders[2]).exit_code == 0


def test_a_folder_without_a_model_is_a_clear_error(predict, tmp_path):
    assert isinstance(predict("--model", tmp_path).exception, StageError)


def test_a_model_in_a_folder_needs_no_state(predict):
    assert predict().exit_code == 0
    assert not Path("data").exists()  # the default of STATE_PATH
