"""A user who does what the remedy of a refused load or correction says gets further."""

import shutil
from decimal import Decimal

import pytest
from corrections import product, some
from load_steps import finish, load_next, plan_of
from table_rows import batches

from db.batches import find_batch
from db.connect import connect
from db.database import Role
from db.load import steps
from db.source.training_set import read_test_set
from shared.errors import BadCorrectionError, BadInputError, LoadError, SourceChangedError

NEW = "productid,operation,designation,prdtypecode"
# The remedy, and the header and the row before and after it was followed.
CORRECTIONS = [
    ("valid columns: productid,", "productid,title", ("{there}", "a"), "productid,designation", ("{there}", "a")),
    ("correct the value", "productid,prdtypecode", ("{there}", "ten"), None, ("{there}", 10)),
    ("the classes are 10,", "productid,prdtypecode", ("{there}", 11), None, ("{there}", 10)),
    ("fill it in", "productid,designation", ("{there}", ""), None, ("{there}", "a")),
    ("use a file without this column", "productid,designation,description", ("{there}", "", "a"), "productid,description", ("{there}", "a")),
    ("correct it", "productid,operation,designation", ("{there}", "drop", "a"), None, ("{there}", "update", "a")),
    ("empty the field", "productid,operation,designation", ("{there}", "delete", "a"), None, ("{there}", "delete", "")),
    ("or correct the operation", "productid,operation,designation", ("{there}", "delete", "a"), None, ("{there}", "update", "a")),
    ("update it instead", NEW, ("{there}", "insert", "a", 10), None, ("{there}", "update", "a", 10)),
    ("insert it, or", NEW, ("{deleted}", "update", "a", 10), None, ("{deleted}", "insert", "a", 10)),
    ("correct the productid", "productid,designation", (66, "a"), None, ("{there}", "a")),
    ("fill them in", NEW, (66, "insert", "a", ""), None, (66, "insert", "a", 10)),
    ("check that you gave the right correction file", "productid,designation", ("{there}", "{title}"), None, ("{there}", "another")),
]  # fmt: skip


@pytest.fixture
def places(loader, load_weeks, apply, settings, training_set):
    load_weeks(1)
    there, deleted = some(loader, "train", 2)
    apply("productid,operation", (deleted, "delete"))
    return {
        "there": there,
        "deleted": deleted,
        "title": product(loader, there)["designation"],
        "later": training_set.rows(250, 251)["productid"][0].as_py(),
        "test": read_test_set(settings.data_path)["productid"][0].as_py(),
    }


@pytest.mark.parametrize(("remedy", "header", "bad", "followed", "good"), CORRECTIONS)
def test_a_correction_is_accepted_after_its_remedy_was_followed(
    apply, places, remedy, header, bad, followed, good
):
    def filled(row):
        return tuple(value.format(**places) if isinstance(value, str) else value for value in row)

    with pytest.raises(BadCorrectionError) as refused:
        apply(header, filled(bad))
    assert all(remedy in problem.remedy for problem in refused.value.problems)
    assert apply(followed or header, filled(good), check=True).rows == 1


@pytest.mark.parametrize("place", ["later", "test"])
def test_a_correction_without_the_row_is_accepted_and_a_later_week_loads_the_product(
    apply, loader, load_weeks, places, place
):
    good = (places["there"], "update", "a", 10)
    with pytest.raises(BadCorrectionError) as refused:
        apply(NEW, good, (places[place], "insert", "a", 10))
    [problem] = refused.value.problems
    assert problem.remedy.startswith("remove the row")
    assert apply(NEW, good).updated == 1
    if place == "later":
        load_weeks(1)
        assert apply(NEW, (places["later"], "update", "then", 10)).updated == 1


def test_a_correction_is_accepted_after_the_load_that_its_remedy_names(apply, loader, settings, training_set):
    batch_id = load_next(loader, settings, training_set)
    with pytest.raises(BadInputError) as refused:
        apply("productid,designation", (some(loader, "train")[0], "a"))
    assert refused.value.remedy == "rakuten load"
    finish(loader, batch_id)
    load_next(loader, settings, training_set)
    with pytest.raises(BadInputError) as refused:
        apply("productid,designation", (some(loader, "train")[0], "a"))
    assert "run rakuten load, which continues the batch" in refused.value.remedy
    steps.load_week(loader, settings, training_set)
    assert apply("productid,designation", (some(loader, "train")[0], "a")).updated == 1


def test_a_batch_is_found_after_the_load_and_under_the_name_that_the_remedy_gives(loader, load_weeks):
    with pytest.raises(BadInputError) as refused:
        find_batch(loader, "week_1")
    assert refused.value.remedy == "load one first: rakuten load"
    load_weeks(1)
    with pytest.raises(BadInputError) as refused:
        find_batch(loader, "week_2")
    assert find_batch(loader, refused.value.remedy.removeprefix("choose one of ")).name == "week_1"


@pytest.mark.parametrize("setting", ["random_seed", "holdout_percentage"])
def test_a_load_goes_on_with_the_setting_that_the_remedy_gives(loader, settings, load_weeks, setting):
    load_weeks(1)
    changed = settings.model_copy(update={setting: 20})
    with pytest.raises(SourceChangedError) as refused:
        plan_of(loader, changed)
    name, value = refused.value.remedy.rpartition(" set ")[2].split("=")
    assert plan_of(loader, changed.model_copy(update={name.lower(): int(value)})).week == 2


def test_a_load_goes_on_after_the_percentage_was_raised_again(loader, load_weeks, settings, training_set):
    load_weeks(3)
    with pytest.raises(BadInputError) as refused:
        plan_of(loader, settings.model_copy(update={"increment_percentage": Decimal(1)}), training_set)
    assert refused.value.remedy.endswith("lowered after week_3: raise it again")
    assert plan_of(loader, settings, training_set).week == 4


def test_a_load_that_is_not_valid_goes_on_after_the_rows_were_corrected(
    loader, as_role, settings, training_set
):
    batch_id = load_next(loader, settings, training_set)
    with as_role(Role.OWNER) as owner:
        owner.execute("insert into products (productid, sample_rank) values (1, 240)")
    with pytest.raises(LoadError) as refused:
        steps.validate_data_load(loader, batch_id)
    assert refused.value.remedy.endswith("correct them, then run the load again")
    with as_role(Role.OWNER) as owner:
        owner.execute("delete from products where productid = 1")
    with pytest.raises(LoadError) as refused:
        steps.validate_data_load(loader, batch_id)
    assert refused.value.remedy == "run the load again"
    steps.load_week(loader, settings, training_set)
    assert batches(loader) == [("week_1", 40, 240, "completed")]


def test_a_load_goes_on_with_the_original_files_or_afresh(
    loader, load_weeks, settings, tmp_path, another_database
):
    load_weeks(1)
    shutil.copytree(settings.data_path, tmp_path / "raw")
    changed = settings.model_copy(update={"data_path": tmp_path / "raw"})
    path = changed.data_path / "X_test.csv"
    original = path.read_bytes()
    path.write_bytes(original.replace(b" ", b"  ", 1))
    with pytest.raises(SourceChangedError) as refused:
        plan_of(loader, changed)
    assert refused.value.remedy.endswith(
        "restore the original, or start afresh with another STATE_PATH or database"
    )
    with connect(another_database.conninfo(Role.LOADER), "test") as afresh:
        assert plan_of(afresh, changed).week == 1
    path.write_bytes(original)
    assert plan_of(loader, changed).week == 2
