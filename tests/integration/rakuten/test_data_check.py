"""`rakuten data check` says what the load would refuse."""

import json
import shutil

import pytest

from db.database import Role


@pytest.fixture
def own_files(settings, tmp_path):
    shutil.copytree(settings.data_path, tmp_path / "own")
    return settings.model_copy(update={"data_path": tmp_path / "own"})


@pytest.fixture
def rakuten(rakuten_as, database, own_files):
    return rakuten_as(database.conninfo(Role.LOADER), own_files)


def change(path):
    header, rest = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(f"{header}\n{rest.replace('e', 'é', 1)}", encoding="utf-8")


def test_before_the_first_load_every_good_file_can_be_loaded(rakuten, own_files):
    change(own_files.data_path / "X_train.csv")
    checked = rakuten("data", "check")
    assert (checked.exit_code, "the files can be loaded" in checked.output) == (0, True)


@pytest.mark.parametrize("name", ["X_train.csv", "X_test.csv"])
def test_a_file_that_has_changed_since_the_first_load_is_named_as_by_the_load(
    rakuten, own_files, load_weeks, name
):
    load_weeks(1)
    assert rakuten("data", "check").exit_code == 0
    change(own_files.data_path / name)
    checked, refused = rakuten("data", "check"), rakuten("load")
    assert checked.exit_code == 2
    assert f"{name}: has changed since the first load" in checked.output
    assert refused.exception.remedy in checked.output
    [problem] = json.loads(rakuten("data", "check", "--json").output)
    assert (problem["file"], problem["line"]) == (name, None)
    assert rakuten("data", "check", "--data", own_files.data_path.parent / "own").exit_code == 2


def test_a_setting_that_the_load_refuses_is_named(rakuten, load_weeks, monkeypatch):
    load_weeks(2)
    monkeypatch.setenv("RANDOM_SEED", "7")
    assert "RANDOM_SEED: was 42 at the first load and is 7 now" in rakuten("data", "check").output
    monkeypatch.setenv("RANDOM_SEED", "42")
    monkeypatch.setenv("INITIAL_PERCENTAGE", "30")
    assert "week_3: should reach" in rakuten("data", "check").output


def test_a_database_that_does_not_answer_is_said_to_be_left_out(rakuten, monkeypatch):
    monkeypatch.setenv("POSTGRES_PORT", "1")
    checked = rakuten("data", "check")
    assert checked.exit_code == 0
    assert "not compared with the database" in checked.stderr
