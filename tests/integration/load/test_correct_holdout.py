"""Whatever is corrected, no dataset ever holds a text of the holdout."""

import numpy as np
import pyarrow as pa
import pytest
from corrections import entries, product, some
from table_rows import rows_of

from db.connect import connect
from db.database import Role
from db.source.holdout import is_holdout
from db.source.text_group import text_group
from listeners.snapshot.leakage import require_no_leak
from shared.errors import StageError


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
        with pytest.raises(StageError, match=f"first: product {copy}"):
            require_no_leak(connection, batch_id)
    load_weeks(1)
    assert product(loader, copy)["split"] == "holdout"
