"""The rows of the weekly load: the right ones, as they are in the files, and once."""

import csv
import shutil
from decimal import Decimal

import pytest
from load_steps import finish, load_next, plan_of, read
from table_rows import batches, everything, history, rows_of

from db.connect import connect
from db.database import Role
from db.load import steps
from shared.errors import LoadError

ROWS = 600  # of the generated data; 240, 258 and 276 of them are weeks 1, 2 and 3


# ---- the rows


def test_each_week_raises_the_rows_to_its_percentage(loader, load_weeks):
    load_weeks(3)
    assert batches(loader) == [
        ("week_1", 40, 240, "completed"),
        ("week_2", 43, 258, "completed"),
        ("week_3", 46, 276, "completed"),
    ]


@pytest.mark.parametrize(
    ("initial", "increment", "maximum", "expected"),
    [
        (40, 25, 100, [240, 390, 540, 600]),
        (33.33, 33.33, 100, [199, 399, 599, 600]),
        (40, 7, 50, [240, 282, 300]),
        (100, 3, 100, [600]),
    ],
)
def test_the_last_week_reaches_the_maximum_and_nothing_follows(
    loader, settings, training_set, initial, increment, maximum, expected
):
    settings = settings.model_copy(
        update={
            "initial_percentage": Decimal(str(initial)),
            "increment_percentage": Decimal(str(increment)),
            "max_percentage": Decimal(maximum),
        }
    )
    while plan := steps.check_current_state(loader, settings, training_set):
        finish(loader, steps.load_increment(loader, plan, training_set).batch_id)
    assert [total_rows for _, _, total_rows, _ in batches(loader)] == expected


def test_products_and_labels_are_the_first_rows_by_rank(loader, load_weeks, training_set):
    load_weeks(2)
    columns = "productid, designation, description, imageid, image_path, sample_rank, split, prdtypecode"
    found = rows_of(
        loader, f"select {columns} from products join labels using (productid) order by sample_rank"
    )
    expected = training_set.rows(0, 258).select(columns.split(", ")).to_pylist()
    assert found == [tuple(row.values()) for row in expected]


def test_the_rows_do_not_depend_on_the_order_of_the_files(
    loader, load_weeks, another_database, settings, shuffled, load_weeks_into
):
    load_weeks(2)
    other_settings = settings.model_copy(update={"data_path": shuffled})
    load_weeks_into(another_database, other_settings, read(other_settings), 2)
    with connect(another_database.conninfo(Role.LOADER), "test") as other:
        assert history(other) == history(loader)


def test_the_history_holds_one_insert_a_product_and_label_attributed_to_its_batch(loader, load_weeks):
    first, second = load_weeks(2)
    for table in ("products", "labels"):
        counts = rows_of(
            loader,
            f"""
            select load_batch_id, operation_type, count(*), count(distinct productid)
            from {table}_history group by 1, 2 order by 1
            """,
        )
        assert counts == [(first, "INSERT", 240, 240), (second, "INSERT", 18, 18)]


TEXTS = [
    ("plain", None),
    (None, "only a description"),
    ("\\N", "\\."),
    ("a,b;c\td", 'say ""hi"" "'),
    (" spaces ", "back\\slash \\n \\"),
    ("two\nlines\r\nand\rmore", "\n"),
    ("🫖 théière 漢字", "\u2028\ufeff\u200b"),
    ("NULL", "NaN"),
    ("'; drop table products; --", "%s %(x)s {} $1"),
]


def test_texts_arrive_as_they_are(loader, settings, tmp_path):
    with (tmp_path / "X_train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["", "designation", "description", "productid", "imageid"])
        writer.writerows([n, title, text, n, n] for n, (title, text) in enumerate(TEXTS))
    (tmp_path / "Y_train.csv").write_text(",prdtypecode\n" + "".join(f"{n},10\n" for n in range(len(TEXTS))))
    shutil.copy(settings.data_path / "X_test.csv", tmp_path)
    settings = settings.model_copy(update={"data_path": tmp_path, "initial_percentage": Decimal(100)})
    finish(loader, load_next(loader, settings))
    assert rows_of(loader, "select designation, description from products order by productid") == TEXTS


def test_products_that_no_file_holds_are_left_alone(loader, load_weeks):
    load_weeks(1)
    loader.execute("insert into products (productid, designation) values (1, 'by hand')")
    loader.commit()
    load_weeks(1)
    assert batches(loader)[-1] == ("week_2", 43, 259, "completed")


# ---- again


def test_a_complete_week_is_not_loaded_again(loader, settings, training_set, load_weeks):
    plan = plan_of(loader, settings, training_set)
    load_weeks(1)
    before = everything(loader)
    with pytest.raises(LoadError, match="batch 'week_1' is complete"):
        steps.load_increment(loader, plan, training_set)
    assert everything(loader) == before


def test_loading_an_unfinished_week_again_changes_nothing_and_writes_no_history(
    loader, settings, training_set
):
    plan = plan_of(loader, settings, training_set)
    first = steps.load_increment(loader, plan, training_set)
    before = (history(loader), rows_of(loader, "select * from products order by id"))
    again = steps.load_increment(loader, plan, training_set)
    assert (first.products_written, first.labels_written) == (240, 240)
    assert (again.rows, again.products_written, again.labels_written) == (240, 0, 0)
    assert again.batch_id == first.batch_id
    assert (history(loader), rows_of(loader, "select * from products order by id")) == before


def test_what_somebody_corrected_before_the_week_was_complete_stays_corrected(
    loader, as_role, settings, training_set
):
    """By another attempt the file would otherwise undo it, and bring back what was erased."""
    load_next(loader, settings, training_set)
    texts = "select sample_rank, designation, prdtypecode from products join labels using (productid) where sample_rank < 4"
    before = rows_of(loader, f"{texts} order by sample_rank")
    with as_role(Role.OWNER) as owner:
        owner.execute("update products set designation = 'corrected' where sample_rank = 0")
        owner.execute(
            "update labels set prdtypecode = 1 where productid = (select productid from products where sample_rank = 1)"
        )
        owner.execute(
            "delete from labels where productid = (select productid from products where sample_rank = 2)"
        )
        owner.execute("delete from products where sample_rank = 2")
    finish(loader, load_next(loader, settings, training_set))
    assert rows_of(loader, f"{texts} order by sample_rank") == [
        (0, "corrected", before[0][2]),
        (1, before[1][1], 1),
        before[3],
    ]
    assert batches(loader) == [("week_1", 40, 239, "completed")]


def test_rows_that_were_all_deleted_before_the_week_was_complete_stay_deleted(
    loader, as_role, settings, training_set
):
    load_next(loader, settings, training_set)
    with as_role(Role.OWNER) as owner:
        owner.execute("delete from labels")
        owner.execute("delete from products")
    finish(loader, load_next(loader, settings, training_set))
    assert batches(loader) == [("week_1", 40, 0, "completed")]


def test_a_product_that_somebody_entered_before_its_week_keeps_what_it_was_given_and_gets_its_rank(
    loader, load_weeks, training_set
):
    of_week_2 = training_set.rows(240, 258).select(["productid", "split"]).to_pylist()
    held_out = next(row["productid"] for row in of_week_2 if row["split"] == "holdout")
    trained = next(row["productid"] for row in of_week_2 if row["split"] == "train")
    load_weeks(1)
    loader.execute(
        "insert into products (productid, designation) values (%s, 'by hand'), (%s, 'by hand')",
        [held_out, trained],
    )
    loader.execute("insert into labels (productid, prdtypecode) values (%s, 10)", [trained])
    loader.commit()
    load_weeks(1)
    assert batches(loader)[-1] == ("week_2", 43, 258, "completed")
    found = rows_of(
        loader,
        "select productid, designation, split, sample_rank is not null, prdtypecode = 10 from products"
        " join labels using (productid) where designation = 'by hand' order by split",
    )
    assert found == [
        (held_out, "by hand", "holdout", True, found[0][-1]),
        (trained, "by hand", "train", True, True),
    ]
