"""The files and settings of the first load bind every later one: what has changed is refused, or recorded."""

import shutil
from decimal import Decimal
from pathlib import Path

import pytest
from load_steps import finish, load_next, plan_of
from table_rows import batches, everything

from db.source.training_set import Y_TEST
from shared.errors import BadInputError, BadSourceError, SourceChangedError


@pytest.fixture
def own_files(settings, tmp_path):
    """Settings whose source files may be changed."""
    directory = tmp_path / "raw"
    shutil.copytree(settings.data_path, directory)
    return settings.model_copy(update={"data_path": directory})


def append_a_line(path: Path) -> None:
    with path.open("a") as file:
        file.write("999999,x,,9999999,9999999\n")


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "loaded, not complete"])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("X_test.csv", append_a_line, "X_test.csv has changed since the first load"),
        ("Y_test.csv", append_a_line, "Y_test.csv has changed since the first load"),
        ("Y_test.csv", Path.unlink, "Y_test.csv is missing since the first load"),
    ],
)
def test_a_changed_source_file_is_refused_and_nothing_is_touched(
    loader, own_files, training_set, complete, name, change, message
):
    batch_id = load_next(loader, own_files, training_set)
    if complete:
        finish(loader, batch_id)
    before = everything(loader)
    change(own_files.data_path / name)
    with pytest.raises(SourceChangedError, match=message) as refused:
        plan_of(loader, own_files, training_set)
    assert refused.value.exit_code == 2
    assert "restore the original" in refused.value.remedy
    assert everything(loader) == before


def test_training_rows_that_were_added_are_refused(loader, own_files):
    finish(loader, load_next(loader, own_files))
    append_a_line(own_files.data_path / "X_train.csv")
    with (own_files.data_path / "Y_train.csv").open("a") as file:
        file.write("999999,10\n")
    before = everything(loader)
    with pytest.raises(SourceChangedError, match=r"_train\.csv has changed"):
        plan_of(loader, own_files)
    assert everything(loader) == before


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "loaded, not complete"])
@pytest.mark.parametrize(("setting", "value"), [("random_seed", 7), ("holdout_percentage", 20)])
def test_another_setting_that_chooses_rows_is_refused_and_nothing_is_touched(
    loader, settings, setting, value, complete
):
    batch_id = load_next(loader, settings)
    if complete:
        finish(loader, batch_id)
    before = everything(loader)
    with pytest.raises(SourceChangedError, match=f"{setting.upper()} was .* and is {value} now") as refused:
        plan_of(loader, settings.model_copy(update={setting: value}))
    assert refused.value.exit_code == 2
    assert everything(loader) == before


def test_labels_of_the_test_set_that_appear_after_the_first_load_are_refused(own_files, loader):
    labels = own_files.data_path / Y_TEST
    later = labels.read_bytes()
    labels.unlink()
    finish(loader, load_next(loader, own_files))
    labels.write_bytes(later)
    with pytest.raises(SourceChangedError, match=r"Y_test\.csv has appeared since the first load"):
        plan_of(loader, own_files)


def test_before_the_first_load_every_source_file_must_be_good(loader, own_files, training_set):
    (own_files.data_path / "X_test.csv").unlink()
    before = everything(loader)
    with pytest.raises(BadSourceError, match=r"X_test\.csv: file is missing"):
        plan_of(loader, own_files, training_set)
    assert everything(loader) == before


def test_percentages_that_were_lowered_are_refused(loader, load_weeks, settings, training_set):
    load_weeks(3)
    lowered = settings.model_copy(update={"increment_percentage": Decimal(1)})
    with pytest.raises(BadInputError, match=r"week_4 should reach 43 % .* week_3 reached 46\.00 %"):
        plan_of(loader, lowered, training_set)


def test_a_retry_with_another_percentage_is_recorded_as_such(loader, settings, training_set):
    load_next(loader, settings, training_set)
    more = settings.model_copy(update={"initial_percentage": Decimal(50)})
    finish(loader, load_next(loader, more, training_set))
    assert batches(loader) == [("week_1", 50, 300, "completed")]
