"""The files of the challenge are found under the names that they come with."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from source_files import X_HEADER, X_ROWS, only_problem

from db.source.file_format import LET_READ
from db.source.synthetic import generate
from db.source.training_set import X_TEST, X_TRAIN, Y_TEST, Y_TRAIN, check_source, fingerprints, read_test_set
from shared.errors import BadInputError

OFFICIAL = {X_TRAIN: "X_train_update.csv", Y_TRAIN: "Y_train_CVw08PX.csv", X_TEST: "X_test_update.csv"}
NAMES = {
    "official": OFFICIAL,
    "lower case": {name: name.lower() for name in OFFICIAL},
    "upper case": {name: name.upper() for name in OFFICIAL},
    "small": {name: name.replace(".csv", "_small.csv").lower() for name in OFFICIAL},
    "downloaded twice": {name: name.replace(".csv", " (1).csv") for name in OFFICIAL},
}
NOBODY = 65_534
OTHER_NAMES = [
    "X_training.csv",
    "X_train2.csv",
    "my_X_train.csv",
    "X_train.csv.part",
    "._X_train.csv",
    "X_train_notes.txt",
]


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_file_is_found_under_each_name_and_its_content_counts_and_not_its_name(sources, names):
    before, rows = fingerprints(sources.directory), sources.training_table()
    for name, found in names.items():
        (sources.directory / name).rename(sources.directory / found)
    assert check_source(sources.directory) == []
    assert fingerprints(sources.directory) == before
    assert sources.training_table().equals(rows)


@pytest.mark.parametrize("other", OTHER_NAMES)
def test_a_file_of_another_name_is_another_file(sources, other):
    sources.write(other, "anything")
    assert check_source(sources.directory) == []
    (sources.directory / X_TRAIN).unlink()
    assert only_problem(sources.directory).reason == "file is missing"


def test_problems_name_the_file_as_it_is_named(sources):
    (sources.directory / X_TRAIN).unlink()
    sources.write("X_train_update.csv", X_HEADER, X_ROWS[0], "1,Livre,,x,901\n", X_ROWS[2])
    assert only_problem(sources.directory).file == "X_train_update.csv"


@pytest.mark.parametrize("name", [X_TRAIN, Y_TRAIN, X_TEST, Y_TEST])
def test_two_files_that_could_be_the_same_are_refused_by_name_until_one_is_moved_away(sources, name):
    first, second = f"{name[:-4]}_a.csv", f"{name[:-4].upper()}_b.csv"
    (sources.directory / name).unlink(missing_ok=True)
    text = "7,10\n" if name == Y_TEST else "".join(X_ROWS)
    for found in (first, second):
        sources.write(found, (",prdtypecode\n" if name[0] == "Y" else X_HEADER), text)
    problem = only_problem(sources.directory)
    assert problem.file == name
    assert first in problem.reason
    assert second in problem.reason
    (sources.directory / second).unlink()
    assert not any("several" in problem.reason for problem in check_source(sources.directory))


def test_labels_of_the_test_set_may_have_a_suffix_too(sources):
    sources.write("y_test_later.csv", ",prdtypecode\n7,10\n")
    assert read_test_set(sources.directory)["prdtypecode"].to_pylist() == [10]


def test_generated_data_does_not_join_files_with_a_suffix(tmp_path):
    path = tmp_path / "x_train_update.csv"
    path.write_text("mine")
    with pytest.raises(BadInputError) as refused:
        generate(tmp_path, 100)
    assert "x_train_update.csv" in refused.value.remedy
    path.rename(tmp_path / "mine.csv")
    assert generate(tmp_path, 100) == 16


@contextmanager
def without_rights_of_root() -> Iterator[None]:
    user = os.geteuid()
    os.seteuid(user or NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", [".", X_TRAIN])
def test_a_file_that_may_not_be_read_is_named_until_it_may(sources, name):
    for parent in (sources.directory, *sources.directory.parents[:2]):
        parent.chmod(0o755)
    path = sources.directory / name
    path.chmod(0)
    with without_rights_of_root():
        problems = check_source(sources.directory)
    path.chmod(0o755)
    assert {problem.remedy for problem in problems} == {LET_READ}
    assert all("cannot be read: Permission denied" in problem.reason for problem in problems)
    with without_rights_of_root():
        assert check_source(sources.directory) == []


def test_a_folder_that_may_not_be_written_is_named_until_it_may(tmp_path):
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    tmp_path.chmod(0o555)
    with without_rights_of_root(), pytest.raises(BadInputError, match=r"cannot write .*: Permission denied"):
        generate(tmp_path / "data", 100)
    tmp_path.chmod(0o777)
    with without_rights_of_root():
        assert generate(tmp_path / "data", 100) == 16
