"""The view `class_distribution` counts what products_as_of_batch() returns, for every batch."""

import pytest
from long_history import CORRECTIONS, write_batch, write_history

from db.database import Role
from shared.categories import CATEGORIES

AS_OF = """
    select batch_name, prdtypecode, count(*)
    from batches
    cross join products_as_of_batch(batches.id)
    where split = 'train' and prdtypecode is not null
    group by batch_name, prdtypecode
"""
COUNTS = "select batch_name, prdtypecode, products from class_distribution where products > 0"
# Changes that move a product between classes, batches or splits. Each list is one batch.
CHANGES = {
    "a product gets another productid, and so does its label": [
        "update products set productid = 900001 where sample_rank = 1",
        "update labels set productid = 900001 where productid = (select productid from products_history where sample_rank = 1 limit 1)",
    ],
    "a product loses its label, and gets another one": [
        "delete from labels where productid = (select productid from products where sample_rank = 2)",
        "insert into labels (productid, prdtypecode) select productid, 2583 from products where sample_rank = 2",
    ],
    "a product loses its label for good": [
        "delete from labels where productid = (select productid from products where sample_rank = 3)",
    ],
    "a product is held out": ["update products set split = 'holdout' where sample_rank = 4"],
    "a product is deleted and inserted again": [
        "create temporary table kept as select productid, split, sample_rank from products where sample_rank = 5",
        "delete from products where sample_rank = 5",
        "insert into products (productid, split, sample_rank) select productid, split, sample_rank from kept",
    ],
    "two products exchange their productids": [
        "update products set productid = -productid where sample_rank in (10, 11)",
        """
        update products
        set productid = case sample_rank
            when 10 then (select -productid from products where sample_rank = 11)
            else (select -productid from products where sample_rank = 10)
        end
        where sample_rank in (10, 11)
        """,
    ],
    "a label changes twice": [
        "update labels set prdtypecode = 40 where productid = (select productid from products where sample_rank = 6)",
        "update labels set prdtypecode = 10 where productid = (select productid from products where sample_rank = 6)",
    ],
    "nothing changes": [],
    "a class is lost": ["delete from labels where prdtypecode = 11"],
}


@pytest.fixture
def history(as_role, as_superuser):
    """A history with arrivals, corrections, deletions, and changes outside any batch; then a batch of each kind of change."""
    with as_role(Role.LOADER, autocommit=True) as loader, as_superuser(autocommit=True) as superuser:
        write_history(loader, superuser, 3000)
        loader.execute("select fail_batch(id, 'x') from data_loads where status = 'running'")
        for number, statements in enumerate(CHANGES.values(), start=30):
            write_batch(
                loader,
                f"correction_{number}",
                [(statement.replace("%", "%%"), None) for statement in statements],
            )
        # a batch that failed is completed after batches with greater ids
        write_batch(loader, "week_4", [("update labels set prdtypecode = 2583 where prdtypecode = 12", None)])
        loader.execute("update labels set prdtypecode = 40 where prdtypecode = 10")  # after the last batch


@pytest.mark.usefixtures("history")
def test_the_counts_are_those_of_the_products_as_of_each_batch(reader):
    expected = reader.execute(AS_OF).fetchall()
    assert len({name for name, _, _ in expected}) == 4 + CORRECTIONS + len(CHANGES)
    assert sorted(reader.execute(COUNTS).fetchall()) == sorted(expected)


@pytest.mark.usefixtures("history")
def test_the_shares_of_a_batch_add_up_and_a_lost_class_has_none(reader):
    sums = reader.execute("select sum(share) from class_distribution group by batch_id").fetchall()
    assert [total for (total,) in sums] == pytest.approx([1] * len(sums))
    lost = (
        "select products, share from class_distribution where prdtypecode = 11 order by batch_id desc limit 1"
    )
    assert reader.execute(lost).fetchone() == (0, 0)


def test_every_class_has_its_name(reader, load_weeks):
    load_weeks(2)
    rows = reader.execute("select batch_name, prdtypecode, category from class_distribution").fetchall()
    assert {name for name, _, _ in rows} == {"week_1", "week_2"}
    assert {code: name for _, code, name in rows} == {code: CATEGORIES[code].name for _, code, _ in rows}


def test_the_counts_of_a_batch_never_change(reader, load_weeks, apply):
    load_weeks(1)
    before = reader.execute(COUNTS).fetchall()
    [productid] = reader.execute("select min(productid) from training_products").fetchone()
    apply("operation,productid", ("delete", productid))
    after = reader.execute(f"{COUNTS} and batch_name = 'week_1'").fetchall()
    assert sorted(after) == sorted(before)


def test_a_database_without_batches_has_no_distribution(reader):
    assert reader.execute("select * from class_distribution").fetchall() == []
