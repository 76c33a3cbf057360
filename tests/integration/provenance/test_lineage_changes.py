"""Where products come from that were changed: corrected, deleted, renamed, by whatever hand."""

from lineage_stages import shown

from db.batches import rows
from db.connect import connect
from db.database import Role
from db.load.correction import correct
from db.sql import query
from listeners.tracking.runs import Tracking
from rakuten.provenance.lineage import lineage
from rakuten.provenance.references import resolve


def test_a_product_is_followed_through_corrections_into_datasets(
    database, settings, load_weeks, as_superuser
):
    load_weeks(2)
    with as_superuser() as connection:
        [productid] = connection.execute(
            "select min(productid) from products where split = 'train'"
        ).fetchone()
        for statement in (
            "update products set designation = E'another [title]\\x1b[31m\\n' where productid = %s",
            "delete from labels where productid = %s",
            "delete from products where productid = %s",
        ):
            connection.execute(statement, [productid])
    load_weeks(1)
    tracking = Tracking(settings)
    with database.connect(Role.READER, "test") as connection:
        document, tree = shown(lineage(resolve(str(productid), connection, tracking), connection, tracking))
    changes = document["product"]["history"][-3:]
    assert [(entry["table_name"], entry["operation_type"]) for entry in changes] == [
        ("products", "UPDATE"),
        ("labels", "DELETE"),
        ("products", "DELETE"),
    ]
    assert {(entry["outside_any_batch"], entry["batch_name"]) for entry in changes} == {(True, "week_3")}
    held = [batch["batch_name"] for batch in document["batches"]]
    assert held in (["week_1", "week_2"], ["week_2"])
    assert "UPDATE outside any batch, seen by week_3 by postgres" in tree
    assert "another [title]?[31m?" in tree
    assert "\x1b" not in tree
    assert f"in {len(held)} dataset" in tree


def test_a_correction_is_a_batch_with_a_file_and_a_reason(database, settings, load_weeks, tmp_path):
    load_weeks(1)
    file = tmp_path / "titles.csv"
    with connect(database.conninfo(Role.LOADER), "test") as connection:
        [productid] = connection.execute("select min(productid) from products").fetchone()
        connection.rollback()
        file.write_text(f"productid,designation\n{productid},Another title\n")
        correct(connection, settings, file, reason="it was wrong")
    load_weeks(1)
    tracking = Tracking(settings)
    with database.connect(Role.READER, "test") as connection:
        document, tree = shown(lineage(resolve("correction_1", connection, tracking), connection, tracking))
    week, correction = document["batches"]
    assert (week["new_rows"], week["corrections"], week["files"]) == (240, None, [])
    assert (correction["new_rows"], correction["corrections"], correction["reason"]) == (
        None,
        1,
        "it was wrong",
    )
    assert [entry["name"] for entry in correction["files"]] == ["titles.csv"]
    assert document["later"] == ["week_2"]
    for words in ("1 correction “it was wrong”", "titles.csv", "train_correction_1  not built yet"):
        assert words in tree


def test_the_datasets_of_a_product_are_those_that_the_past_shows(database, load_weeks, as_superuser):
    """Against the as-of function, for every product that ever was, after changes of every kind."""
    load_weeks(1)
    some = "select productid from products where split = 'train' order by productid limit 5 offset"
    for changes in (
        (
            f"delete from products where productid in ({some} 0)",
            f"update labels set prdtypecode = 10 where productid in ({some} 5)",
            f"delete from labels where productid in ({some} 10)",
            f"update products set split = 'holdout' where productid in ({some} 15)",
            f"update products set productid = productid + 1 where productid in ({some} 20)",
            "insert into products (productid) values (1)",
            "insert into labels (productid, prdtypecode) values (1, 10)",
        ),
        (
            "insert into products (productid) select distinct productid from products_history on conflict do nothing",
            "insert into products (productid) values (2)",
            "insert into labels (productid, prdtypecode) select productid, 40 from products on conflict do nothing",
            f"delete from products where productid in ({some} 100)",
        ),
    ):
        with as_superuser() as connection:
            for change in changes:
                connection.execute(change)
            percentage = "(select max(percentage) from data_loads)"
            name = "'correction_' || (select count(*) from data_loads)"
            connection.execute(
                f"insert into data_loads (batch_name, percentage, status) values ({name}, {percentage}, 'completed')"
            )
    with database.connect(Role.READER, "test") as connection:
        expected = connection.execute(
            "select product.productid, array_agg(data_loads.id order by data_loads.id)"
            " from data_loads, products_as_of_batch(data_loads.id) as product"
            " where split = 'train' and prdtypecode is not null group by product.productid"
        ).fetchall()
        ever = connection.execute("select distinct productid from products_history").fetchall()
        statement = query("provenance/datasets_of_product")
        found = {
            productid: [
                (row["batch_id"], row["productid"])
                for row in rows(connection, statement, {"productid": productid})
            ]
            for (productid,) in ever
        }
    assert {tuple(held) for _, held in expected} == {(1,), (1, 2), (1, 2, 3), (1, 3), (2, 3), (3,)}
    expected = dict(map(tuple, expected))
    by_this_name = {
        productid: [batch_id for batch_id, name in held if name == productid]
        for productid, held in found.items()
    }
    assert {productid: held for productid, held in by_this_name.items() if held} == expected
    others = [
        (batch_id, name) for productid, held in found.items() for batch_id, name in held if name != productid
    ]
    assert others  # under which productid a batch knew it that has another one elsewhere
    assert all(batch_id in expected[name] for batch_id, name in others)
