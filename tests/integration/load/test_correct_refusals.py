"""A correction with anything wrong in it is refused whole, and every problem is named."""

import pytest
from corrections import product, some
from table_rows import everything

from db.load import steps
from db.load.correction import correct
from db.source.training_set import read_test_set
from shared.errors import BadCorrectionError, BadInputError


@pytest.fixture
def problems(apply, loader):
    """What is wrong with a file, line by line; that it is refused has changed nothing."""

    def refused(header: str, *rows: tuple) -> list[tuple]:
        before = everything(loader)
        with pytest.raises(BadCorrectionError) as refusal:
            apply(header, *rows)
        assert everything(loader) == before
        return [(problem.line, problem.value, problem.reason) for problem in refusal.value.problems]

    return refused


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("productid,prdtypecode", ("x", 10), "productid is not a whole number of at most 18 digits"),
        ("productid,prdtypecode", ("", 10), "productid is not a whole number of at most 18 digits"),
        (
            "productid,prdtypecode",
            ("{there}", "ten"),
            "prdtypecode is not a whole number of at most 9 digits",
        ),
        ("productid,prdtypecode", ("{there}", 11), "prdtypecode is not a known class"),
        ("productid,prdtypecode", ("{there}", ""), "prdtypecode may not be empty"),
        ("productid,designation", ("{there}", ""), "designation may not be empty"),
        ("productid,designation", ("{there}", "a\0b"), "designation holds a NUL character"),
        ("productid,description", ("{there}", "a\0b"), "description holds a NUL character"),
        (
            "productid,designation",
            ("{there}", "a" * 100_001),
            "designation is longer than 100,000 characters",
        ),
        ("productid,imageid", ("{there}", "-1"), "imageid is not a whole number of at most 18 digits"),
        ("productid,operation", ("{there}", "drop"), "operation is none of update, delete, insert"),
        (
            "productid,operation,designation",
            ("{there}", "", "a"),
            "operation is none of update, delete, insert",
        ),
        ("productid,operation,designation", ("{there}", "delete", "a"), "a deletion takes no designation"),
        ("productid,operation", ("{there}", "insert"), "the product exists already"),
        ("productid,prdtypecode", (66, 10), "no product has this productid"),
        ("productid,operation", (66, "delete"), "no product has this productid"),
        ("productid,prdtypecode", ("{deleted}", 10), "the product was deleted"),
        (
            "productid,operation,designation",
            (66, "insert", "a"),
            "a new product needs designation and prdtypecode",
        ),
        (
            "productid,operation,designation,prdtypecode",
            ("{later}", "insert", "a", 10),
            "X_train.csv holds this product",
        ),
        (
            "productid,operation,designation,prdtypecode",
            ("{test}", "insert", "a", 10),
            "X_test.csv holds this product",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_nothing_is_changed(
    loader, load_weeks, apply, problems, settings, training_set, header, row, reason
):
    load_weeks(1)
    there, deleted, good = some(loader, "train", 3)
    apply("productid,operation", (deleted, "delete"))
    places = {
        "there": there,
        "deleted": deleted,
        "later": training_set.rows(599, 600)["productid"][0].as_py(),
        "test": read_test_set(settings.data_path)["productid"][0].as_py(),
    }
    values = tuple(value.format(**places) if isinstance(value, str) else value for value in row)
    good_row = {"productid": good, "designation": "a", "prdtypecode": 10, "operation": "update"}
    if "delete" in values or "insert" in values:
        good_row |= {"operation": "delete", "designation": "", "prdtypecode": ""}
    first = tuple(good_row.get(name, "") for name in header.split(","))
    [(line, _, found)] = problems(header, first, values)
    assert (line, found) == (3, reason)


def test_every_problem_is_found_at_once(loader, load_weeks, problems):
    load_weeks(1)
    first, second = some(loader, "train", 2)
    header = "productid,operation,designation,prdtypecode"
    found = problems(
        header,
        (first, "update", "two\nlines", 10),
        (first, "delete", "", ""),
        (second, "update", "", 11),
        (66, "update", "a", 10),
        (67, "insert", "a", 11),
    )
    assert found == [
        (4, str(first), "duplicate productid, first seen on line 2"),
        (5, "11", "prdtypecode is not a known class"),
        (5, "", "designation may not be empty"),
        (6, "66", "no product has this productid"),
        (7, "11", "prdtypecode is not a known class"),
    ]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("productid", "there is nothing to correct"),
        ("productid,price", "column 'price' is unknown"),
        (",productid,prdtypecode", "column '' is unknown"),
        ("prdtypecode", "column 'productid' is missing"),
        ("productid,prdtypecode,prdtypecode", "column 'prdtypecode' appears 2 times"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(load_weeks, problems, header, reason):
    load_weeks(1)
    [(line, _, found)] = problems(header, ("5",) * len(header.split(",")))
    assert (line, found) == (1, reason)


def test_a_file_that_the_reader_refuses_is_refused(load_weeks, loader, settings, tmp_path):
    load_weeks(1)
    path = tmp_path / "truncated.csv"
    path.write_bytes(b"productid,prdtypecode\n5,10\n6,2")
    with pytest.raises(
        BadCorrectionError, match=r"1 problem in the correction; nothing was changed\n.*truncated"
    ):
        correct(loader, settings, path)


def test_a_file_that_changes_nothing_is_refused(loader, load_weeks, problems):
    load_weeks(1)
    (productid,) = some(loader, "train")
    row = (productid, product(loader, productid)["prdtypecode"])
    [(line, _, reason)] = problems("productid,prdtypecode", row)
    assert (line, reason) == (None, "it changes nothing: every product already has the values of the file")


def test_nothing_is_corrected_before_the_first_week_is_complete(apply, loader, settings, training_set):
    plan = steps.check_current_state(loader, settings, training_set)
    steps.load_increment(loader, plan, training_set)
    with pytest.raises(BadInputError, match="no week is complete yet"):
        apply("productid,prdtypecode", (5, 10))


def test_nothing_is_corrected_while_a_week_is_being_loaded(apply, loader, load_weeks, settings, training_set):
    load_weeks(1)
    steps.load_increment(loader, steps.check_current_state(loader, settings, training_set), training_set)
    before = everything(loader)
    with pytest.raises(BadInputError, match="week_2 is 'running', and a correction must wait until"):
        apply("productid,prdtypecode", (some(loader, "train")[0], 10))
    assert everything(loader) == before
