"""Corrections: what is wrong is refused whole, and what is right becomes a batch of its own."""

import csv
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from db import load, source
from db.connect import connect
from db.correct import correct
from db.database import Role
from db.embedded.waiting import poll
from db.source import is_holdout
from db.text_group import text_group
from listeners.snapshot.leakage import require_no_leak
from shared.errors import BadCorrectionError, BadInputError, StageError
from shared.events import BatchCompleted, parse

DEADLINE_S = 30
STATE = "productid, designation, description, imageid, image_path, sample_rank, split, prdtypecode"


@pytest.fixture
def loader(as_role):
    with as_role(Role.LOADER) as connection:
        yield connection


@pytest.fixture
def reader(as_role):
    with as_role(Role.READER) as connection:
        yield connection


@pytest.fixture
def write(tmp_path):
    """Write a correction's file: `write("productid,prdtypecode", (5, 10))`."""

    def to_file(header: str, *rows: tuple, name: str = "correction.csv"):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"{header}\n")
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerows(rows)
        return path

    return to_file


@pytest.fixture
def apply(loader, settings, write):
    """Correct: `apply("productid,prdtypecode", (5, 10))`."""
    return lambda header, *rows, **options: correct(loader, settings, write(header, *rows), **options)


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


def rows_of(connection, statement: str, *parameters: object) -> list[tuple]:
    rows = connection.execute(statement, parameters).fetchall()
    connection.rollback()
    return rows


def everything(connection) -> list[list[tuple]]:
    tables = ("products", "labels", "data_loads", "products_history", "labels_history")
    return [rows_of(connection, f"select * from {table} order by 1") for table in tables]


def product(connection, productid: int) -> dict[str, object] | None:
    """The product with its label, as the views show it."""
    statement = f"select {STATE} from products left join labels using (productid) where productid = %s"
    names = STATE.split(", ")
    found = rows_of(connection, statement, productid)
    return dict(zip(names, found[0], strict=True)) if found else None


def some(connection, split: str, count: int = 1, first: int = 0) -> list[int]:
    """Productids of a split, by rank."""
    statement = "select productid from products where split = %s order by sample_rank limit %s offset %s"
    return [productid for (productid,) in rows_of(connection, statement, split, count, first)]


def entries(connection, productid: int, table: str = "products") -> list[tuple]:
    return rows_of(
        connection,
        f"select operation_type, batch_name, changed_by, application from {table}_history"
        " left join data_loads on data_loads.id = load_batch_id where productid = %s order by history_id",
        productid,
    )[1:]


# ---- what a correction does


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


def test_a_product_that_was_never_there_has_no_rank_and_the_split_of_its_text(loader, load_weeks, apply):
    load_weeks(1)
    trained, held_out = texts_of_either_side()
    header = "productid,operation,designation,prdtypecode"
    result = apply(header, (77, "insert", trained, 10), (78, "insert", held_out, 10))
    assert (result.inserted, result.held_out) == (2, 1)
    found = [product(loader, 77), product(loader, 78)]
    assert [(row["sample_rank"], row["image_path"], row["split"]) for row in found] == [
        (None, None, "train"),
        (None, None, "holdout"),
    ]


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


# ---- as a batch of its own


def test_history_says_who_and_in_which_batch(loader, load_weeks, apply):
    load_weeks(1)
    updated, deleted = some(loader, "train", 2)
    header = "productid,operation,designation,prdtypecode"
    apply(header, (updated, "update", "Zyx-Lampe 77", 10), (deleted, "delete", "", ""))
    entry = ("correction_1", "rakuten_loader", "test")
    for table in ("products", "labels"):
        assert entries(loader, updated, table) == [("UPDATE", *entry)]
        assert entries(loader, deleted, table) == [("DELETE", *entry)]


def test_a_correction_is_recorded_sealed_and_announced(loader, load_weeks, apply, as_role):
    load_weeks(1)
    (productid,) = some(loader, "train")
    with as_role(Role.READER, autocommit=True) as ears:
        ears.execute("listen batch_completed")
        result = apply("productid,prdtypecode", (productid, 10), reason="wrong on the label")
        ears.execute("select 1")  # whatever was committed before has been delivered with the answer
        assert [parse(note.channel, note.payload) for note in ears.notifies(timeout=0)] == [
            BatchCompleted(v=1, batch_id=result.batch_id)
        ]
        [(metadata,)] = rows_of(ears, "select metadata from data_loads where batch_name = 'correction_1'")
        assert metadata["source"]["reason"] == "wrong on the label"
        assert list(metadata["source"]["files"]) == ["correction.csv"]
        recorded = {key: value for key, value in metadata["load"].items() if key != "seconds"}
        counts = {"rows": 1, "inserted": 0, "updated": 0, "deleted": 0, "labels": 1, "held_out": 0}
        assert recorded == counts
        assert rows_of(ears, "select batch_name from verify_seals() where problem is null") == [
            ("week_1",),
            ("correction_1",),
        ]
        status = "select batch_name, status, new_rows, snapshot_state from pipeline_status"
        assert rows_of(ears, status)[-1] == ("correction_1", "completed", 1, "waiting")
        assert rows_of(ears, "select batch_name from pending_batches('snapshot')") == [
            ("week_1",),
            ("correction_1",),
        ]


def test_weeks_go_on_after_corrections_as_if_there_were_none(
    loader, load_weeks, apply, settings, training_set
):
    load_weeks(1)
    for code in (10, 40):
        apply("productid,prdtypecode", (some(loader, "train")[0], code))
    plan = load.check_current_state(loader, settings, training_set)
    assert (plan.week, plan.first_rank, plan.percentage) == (2, 240, 43)
    load_weeks(1)
    apply("productid,prdtypecode", (some(loader, "train")[0], 50))
    names = rows_of(loader, "select batch_name, percentage from data_loads order by id")
    assert names == [
        ("week_1", 40),
        ("correction_1", 40),
        ("correction_2", 40),
        ("week_2", 43),
        ("correction_3", 43),
    ]


def test_a_week_that_is_repeated_does_not_undo_a_correction(
    loader, load_weeks, apply, settings, training_set
):
    """Week 2 has failed after its rows came in, and is loaded again after one of them was corrected and another deleted."""
    load_weeks(1)
    plan = load.check_current_state(loader, settings, training_set)
    failed = load.load_increment(loader, plan, training_set).batch_id
    loader.execute("select fail_batch(%s, 'a reason')", [failed])
    loader.commit()
    corrected, deleted = training_set.rows(240, 242)["productid"].to_pylist()
    with pytest.raises(BadInputError, match="week_2 is 'failed', and nothing is corrected before"):
        apply("productid,prdtypecode", (some(loader, "train")[0], 10))
    loader.execute("update products set designation = 'Zyx-Lampe 77' where productid = %s", [corrected])
    loader.execute("update labels set prdtypecode = 10 where productid = %s", [corrected])
    loader.execute("delete from labels where productid = %s", [deleted])
    loader.execute("delete from products where productid = %s", [deleted])
    loader.commit()
    load_weeks(1)
    assert product(loader, corrected)["designation"] == "Zyx-Lampe 77"
    assert product(loader, corrected)["prdtypecode"] == 10
    assert product(loader, deleted) is None
    assert rows_of(loader, "select total_rows from data_loads where batch_name = 'week_2'") == [(257,)]


def test_a_batch_that_psql_completes_gets_no_dataset_with_a_text_of_the_holdout_in_it(
    loader, reader, load_weeks, database
):
    """Only rakuten holds near-duplicates out before it completes a batch; the next one that it completes makes up for it."""
    load_weeks(1)
    (copied,), (copy,) = some(loader, "holdout"), some(loader, "train")
    text = product(loader, copied)
    [batch_id] = loader.execute("select claim_batch('correction_1', 40, '{}')").fetchone()
    loader.execute("select begin_batch(%s)", [batch_id])
    loader.execute(
        "update products set designation = %s, description = %s where productid = %s",
        [text["designation"], text["description"], copy],
    )
    loader.execute("select complete_batch(%s)", [batch_id])
    loader.commit()
    with connect(database.conninfo(Role.SNAPSHOT), "test", autocommit=True) as connection:
        require_no_leak(connection, 1)
        with pytest.raises(StageError, match=f"productid {copy} first"):
            require_no_leak(connection, batch_id)
    load_weeks(1)
    assert product(loader, copy)["split"] == "holdout"


@pytest.mark.parametrize("batch", ["week", "correction"])
def test_what_psql_changes_flows_into_the_next_batch_s_snapshot(
    loader, reader, load_weeks, apply, as_role, batch
):
    load_weeks(1)
    first, second = some(loader, "train", 2)
    with as_role(Role.OWNER) as owner:
        owner.execute("update products set designation = 'by psql' where productid = %s", [first])
    if batch == "week":
        load_weeks(1)
    else:
        apply("productid,designation", (second, "by file"))
    as_of = "select designation from products_as_of_batch(%s) where productid = %s"
    assert rows_of(reader, as_of, 2, first) == [("by psql",)]
    assert rows_of(reader, as_of, 1, first) != [("by psql",)]
    [(operation, name, changed_by, _)] = entries(loader, first)
    assert (operation, name, changed_by) == ("UPDATE", None, "rakuten_owner")


# ---- all or nothing


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
        ("productid,prdtypecode", ("{there}", 11), "prdtypecode is no class"),
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
        ("productid,operation", ("{there}", "insert"), "the product is there already"),
        ("productid,prdtypecode", (66, 10), "no product has this productid"),
        ("productid,operation", (66, "delete"), "no product has this productid"),
        ("productid,prdtypecode", ("{deleted}", 10), "the product was deleted"),
        (
            "productid,operation,designation",
            (66, "insert", "a"),
            "a product that was not there before needs designation and prdtypecode",
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
        "test": source.read_test_set(settings.data_path)["productid"][0].as_py(),
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
        (5, "11", "prdtypecode is no class"),
        (5, "", "designation may not be empty"),
        (6, "66", "no product has this productid"),
        (7, "11", "prdtypecode is no class"),
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
    assert (line, reason) == (None, "it changes nothing: every product is as the file says already")


def test_nothing_is_corrected_before_the_first_week_is_complete(apply, loader, settings, training_set):
    plan = load.check_current_state(loader, settings, training_set)
    load.load_increment(loader, plan, training_set)
    with pytest.raises(BadInputError, match="no week is complete yet"):
        apply("productid,prdtypecode", (5, 10))


def test_nothing_is_corrected_while_a_week_is_being_loaded(apply, loader, load_weeks, settings, training_set):
    load_weeks(1)
    load.load_increment(loader, load.check_current_state(loader, settings, training_set), training_set)
    before = everything(loader)
    with pytest.raises(BadInputError, match="week_2 is 'running', and nothing is corrected before"):
        apply("productid,prdtypecode", (some(loader, "train")[0], 10))
    assert everything(loader) == before


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


def test_two_corrections_at_once_come_one_after_the_other(loader, as_role, load_weeks, settings, write):
    load_weeks(1)
    (productid,) = some(loader, "train")
    files = [write("productid,prdtypecode", (productid, code), name=f"{code}.csv") for code in (10, 40)]

    def run(path) -> str:
        with as_role(Role.LOADER) as connection:
            return correct(connection, settings, path).batch_name

    with as_role(Role.OWNER) as writer, ThreadPoolExecutor(2) as pool:
        writer.execute("update labels set prdtypecode = 50 where productid = %s", [productid])
        running = [pool.submit(run, path) for path in files]
        waiting = "select from pg_stat_activity where wait_event_type = 'Lock'"
        assert poll(lambda: len(rows_of(loader, waiting)) == 2, timeout_s=DEADLINE_S)
        writer.commit()
        names = sorted(future.result(timeout=DEADLINE_S) for future in running)
    assert names == ["correction_1", "correction_2"]
    last = rows_of(
        loader, "select metadata -> 'source' -> 'files' from data_loads where batch_name = 'correction_2'"
    )
    [(code,)] = rows_of(loader, "select prdtypecode from labels where productid = %s", productid)
    assert list(last[0][0]) == [f"{code}.csv"]


# ---- the holdout


def texts_of_either_side() -> tuple[str, str]:
    """A title that is trained on, and one that is held out."""
    titles = [f"Zyx-Lampe {number}" for number in range(100)]
    held_out = is_holdout(
        pa.table({"designation": titles, "description": pa.nulls(100, pa.string())}), 42, 10
    )
    return titles[int(np.argmin(held_out))], titles[int(np.argmax(held_out))]


def trained_on(connection) -> set[int]:
    """Every productid that is in the dataset of any batch."""
    statement = (
        "select distinct productid from data_loads, products_as_of_batch(data_loads.id)"
        " where status = 'completed' and split = 'train' and prdtypecode is not null"
    )
    return {productid for (productid,) in rows_of(connection, statement)}


def test_a_product_of_the_holdout_stays_there_whatever_its_text_becomes(loader, reader, load_weeks, apply):
    load_weeks(1)
    updated, restored, renamed = some(loader, "holdout", 3)
    trained, _ = texts_of_either_side()
    apply("productid,operation,designation", (updated, "update", trained), (restored, "delete", ""))
    apply("productid,operation,designation", (restored, "insert", trained))
    loader.execute("update products set productid = 66 where productid = %s", [renamed])
    loader.execute("insert into products (productid, designation) values (%s, %s)", [renamed, trained])
    loader.execute("insert into labels (productid, prdtypecode) values (66, 10)")
    loader.commit()
    apply("productid,designation", (66, f"{trained}!"))
    for productid in (updated, restored, renamed, 66):
        assert product(loader, productid)["split"] == "holdout"
    assert trained_on(reader).isdisjoint({updated, restored, renamed, 66})


def test_a_trained_product_whose_text_becomes_one_of_the_holdout_leaves_the_datasets_and_stays_out(
    loader, reader, load_weeks, apply
):
    first, _ = load_weeks(2)
    (productid,) = some(loader, "train")
    trained, held_out = texts_of_either_side()
    result = apply("productid,designation,description", (productid, f"<b>{held_out.upper()}</b>", ""))
    assert (result.held_out, product(loader, productid)["split"]) == (1, "holdout")
    back = apply("productid,designation", (productid, trained))
    assert (back.held_out, product(loader, productid)["split"]) == (0, "holdout")
    statement = "select split from products_as_of_batch(%s) where productid = %s"
    splits = [
        rows_of(reader, statement, batch, productid) for batch in (first, result.batch_id, back.batch_id)
    ]
    assert splits == [[("train",)], [("holdout",)], [("holdout",)]]


@pytest.mark.parametrize("ends_with", ["week", "correction"])
def test_what_psql_changes_is_held_out_by_the_next_batch(
    loader, reader, load_weeks, apply, as_role, ends_with
):
    load_weeks(1)
    retitled, reopened, other = *some(loader, "train"), *some(loader, "holdout"), *some(loader, "train", 1, 5)
    _, held_out = texts_of_either_side()
    with as_role(Role.OWNER) as owner:
        new_text = "update products set designation = %s, description = null where productid = %s"
        owner.execute(new_text, [held_out, retitled])
        owner.execute("update products set split = 'train' where productid = %s", [reopened])
        owner.execute("insert into products (productid, designation) values (66, %s)", [f"{held_out}?"])
        owner.execute("insert into labels (productid, prdtypecode) values (66, 10)")
        owner.execute(new_text, ["Zyx-Lampe", other])
    before = trained_on(reader)
    if ends_with == "week":
        load_weeks(1)
    else:
        apply("productid,prdtypecode", (other, 10))
    for productid in (retitled, reopened, 66):
        assert product(loader, productid)["split"] == "holdout"
        assert entries(loader, productid)[-1][1] in {"week_2", "correction_1"}
    assert product(loader, other)["split"] == "train"
    assert trained_on(reader).isdisjoint({reopened, 66})
    assert retitled in before  # as of week 1 it was rightly trained on


def test_no_dataset_ever_holds_a_near_duplicate_of_the_holdout(
    loader, reader, load_weeks, apply, training_set
):
    """Corrections copy titles of the holdout into training products, and the other way round."""
    load_weeks(1)
    held_out, trained = some(loader, "holdout", 8), some(loader, "train", 8)
    texts = {productid: product(loader, productid) for productid in (*held_out, *trained)}
    header = "productid,designation,description"
    swapped = [
        (one, texts[other]["designation"], texts[other]["description"] or "")
        for pair in zip(held_out, trained, strict=True)
        for one, other in (pair, pair[::-1])
    ]
    apply(header, *swapped)
    load_weeks(1)
    groups = {
        text_group(row["designation"], row["description"])
        for row in training_set.holdout().select(["designation", "description"]).to_pylist()
    }
    rows = rows_of(
        reader,
        "select designation, description from data_loads, products_as_of_batch(data_loads.id)"
        " where status = 'completed' and split = 'train'",
    )
    assert [row for row in rows if text_group(*row) in groups] == []
    assert {product(loader, productid)["split"] for productid in (*held_out, *trained)} == {"holdout"}
