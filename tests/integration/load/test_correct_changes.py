"""What a correction changes: the rows and columns of its file, and no other."""

from corrections import entries, product, some
from table_rows import everything, rows_of

from db.database import Role


def test_labels_are_fixed_by_a_file_of_productids_and_codes(loader, load_weeks, apply):
    load_weeks(2)
    first, second = some(loader, "train", 2)
    before = [product(loader, first), product(loader, second)]
    result = apply("productid,prdtypecode", (first, 10), (second, 2905))
    assert (result.updated, result.labels, result.batch_name, result.total_rows) == (
        0,
        2,
        "correction_1",
        258,
    )
    after = [product(loader, first), product(loader, second)]
    assert after == [before[0] | {"prdtypecode": 10}, before[1] | {"prdtypecode": 2905}]


def test_an_update_sets_the_columns_of_the_file_and_no_other(loader, load_weeks, apply):
    load_weeks(1)
    (productid,) = some(loader, "train")
    before = product(loader, productid)
    result = apply("productid,designation,description,imageid", (productid, "Zyx-Lampe 77", "", 12))
    changes = {"designation": "Zyx-Lampe 77", "description": None, "imageid": 12}
    path = f"images/image_train/image_12_product_{productid}.jpg"
    assert product(loader, productid) == before | changes | {"image_path": path}
    assert (result.updated, result.labels) == (1, 0)
    apply("productid,imageid", (productid, ""))
    assert product(loader, productid) == before | changes | {"imageid": None, "image_path": None}


def test_texts_arrive_as_they_are(loader, load_weeks, apply):
    load_weeks(1)
    (productid,) = some(loader, "train")
    text = 'a "b", c\r\nd\re\n\\N NULL 🫖'
    apply("productid,designation,description", (productid, text, " "))
    found = product(loader, productid)
    assert (found["designation"], found["description"]) == (text, " ")


def test_a_deleted_product_is_gone_with_its_label_and_stays_gone_in_later_weeks(loader, load_weeks, apply):
    load_weeks(1)
    (productid,) = some(loader, "train")
    result = apply("productid,operation", (productid, "delete"))
    assert (result.deleted, result.labels, result.total_rows) == (1, 1, 239)
    assert product(loader, productid) is None
    assert rows_of(loader, "select from labels where productid = %s", productid) == []
    load_weeks(1)
    assert product(loader, productid) is None
    batches = rows_of(loader, "select batch_name, total_rows, percentage from data_loads order by id")
    assert batches == [("week_1", 240, 40), ("correction_1", 239, 40), ("week_2", 257, 43)]


def test_an_insertion_brings_back_what_was_deleted_as_another_row(loader, load_weeks, apply):
    load_weeks(1)
    kept, changed = some(loader, "train", 2)
    before = [product(loader, kept), product(loader, changed)]
    ids = rows_of(loader, "select id from products where productid in (%s, %s)", kept, changed)
    apply("productid,operation", (kept, "delete"), (changed, "delete"))
    header = "productid,operation,designation,imageid,prdtypecode"
    result = apply(header, (kept, "insert", "", "", ""), (changed, "insert", "Zyx-Lampe 77", 12, 10))
    assert (result.inserted, result.labels, result.batch_name) == (2, 2, "correction_2")
    path = f"images/image_train/image_12_product_{changed}.jpg"
    given = {"designation": "Zyx-Lampe 77", "imageid": 12, "image_path": path, "prdtypecode": 10}
    assert [product(loader, kept), product(loader, changed)] == [before[0], before[1] | given]
    now = rows_of(loader, "select id from products where productid in (%s, %s)", kept, changed)
    assert not set(ids) & set(now)
    load_weeks(1)
    assert rows_of(loader, "select total_rows from data_loads where batch_name = 'week_2'") == [(258,)]


def test_a_product_that_is_as_the_file_says_leaves_no_entry(loader, load_weeks, apply):
    load_weeks(1)
    same, other = some(loader, "train", 2)
    as_it_is = product(loader, same)
    result = apply(
        "productid,designation,prdtypecode",
        (same, as_it_is["designation"], as_it_is["prdtypecode"]),
        (other, "Zyx-Lampe 77", product(loader, other)["prdtypecode"]),
    )
    assert (result.rows, result.updated, result.labels) == (2, 1, 0)
    assert entries(loader, same) == entries(loader, same, "labels") == []


def test_a_missing_label_is_added(loader, load_weeks, apply, as_role):
    load_weeks(1)
    (productid,) = some(loader, "train")
    with as_role(Role.OWNER) as owner:
        owner.execute("delete from labels where productid = %s", [productid])
    apply("productid,prdtypecode", (productid, 10))
    assert product(loader, productid)["prdtypecode"] == 10


def test_a_check_says_what_would_be_changed_and_changes_nothing(loader, load_weeks, apply):
    load_weeks(1)
    updated, deleted = some(loader, "train", 2)
    before = everything(loader)
    header = "productid,operation,designation,prdtypecode"
    rows = ((updated, "update", "Zyx-Lampe 77", 10), (deleted, "delete", "", ""))
    checked = apply(header, *rows, check=True)
    assert everything(loader) == before
    done = apply(header, *rows)
    assert (checked.batch_id, checked.total_rows) == (None, None)
    for count in ("batch_name", "rows", "inserted", "updated", "deleted", "labels", "held_out"):
        assert getattr(checked, count) == getattr(done, count)
