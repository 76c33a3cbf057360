"""An id that the history knows is given to no other product; a productid that is given again is told apart."""

import json

import psycopg
import pytest

from db.database import Role
from db.protections import deviations

NEW = "insert into products (productid, designation) values (66, 'new')"
LABEL = "insert into labels (productid, prdtypecode) values (66, 10)"


@pytest.fixture
def owner(as_role):
    with as_role(Role.OWNER, autocommit=True) as connection:
        yield connection


@pytest.fixture
def rakuten(rakuten_as, database, settings):
    return rakuten_as(database.conninfo(Role.OWNER), settings)


def test_after_a_truncate_that_restarts_ids_no_product_takes_the_place_of_another(
    database, owner, load_weeks, rakuten
):
    load_weeks(1)
    owner.execute("truncate products, labels restart identity")
    for statement in (NEW, LABEL):
        with pytest.raises(
            psycopg.errors.IntegrityConstraintViolation, match="belongs to an earlier row"
        ) as refused:
            owner.execute(statement)
        assert "rakuten db upgrade" in refused.value.diag.message_hint
    behind = {found.name for found in deviations(owner)}
    assert behind == {"products", "labels"}

    assert rakuten("db", "upgrade").exit_code == 0
    assert deviations(owner) == []
    owner.execute(NEW)
    owner.execute(LABEL)
    found = json.loads(rakuten("taint", "66", "--json").output)
    assert not any(batch["in_dataset"] for batch in found["batches"])


@pytest.mark.parametrize("table", ["products", "labels"])
@pytest.mark.parametrize(
    "statement",
    [
        "select setval('{0}_id_seq', 1)",
        "alter table {0} alter column id restart",
        "alter sequence {0}_id_seq restart with 2",
        None,
    ],
)
def test_an_id_that_was_used_is_refused(owner, load_weeks, table, statement):
    load_weeks(1)
    owner.execute(f"delete from {table} where id < 5")
    insert = NEW if table == "products" else LABEL
    if statement is None:
        insert = insert.replace("(productid", "(id, productid").replace(
            "values (", "overriding system value values (3, "
        )
    else:
        owner.execute(statement.format(table))
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="belongs to an earlier row"):
        owner.execute(insert)


def test_ids_that_arrive_in_another_order_are_accepted(as_role, load_weeks):
    load_weeks(1)
    with as_role(Role.LOADER) as first, as_role(Role.LOADER, autocommit=True) as second:
        [(early,)] = first.execute("insert into products (productid) values (66) returning id").fetchall()
        second.execute("insert into products (productid) values (67)")
        first.rollback()  # its id is free, and lies below one that the history has
        with as_role(Role.OWNER, autocommit=True) as owner:
            owner.execute(
                "insert into products (id, productid) overriding system value values (%s, 68)", [early]
            )


def test_a_productid_that_is_given_to_another_product_is_told_apart(owner, load_weeks, rakuten):
    load_weeks(1)
    (id_1, number), (id_2, other) = owner.execute(
        "select id, productid from products where split = 'train' order by id limit 2"
    ).fetchall()
    owner.execute("delete from labels where productid = any(%s)", [[number, other]])
    owner.execute("delete from products where id = %s", [id_1])
    owner.execute("update products set productid = %s where id = %s", [number, id_2])
    owner.execute("insert into labels (productid, prdtypecode) values (%s, 10)", [number])
    load_weeks(1)
    found = json.loads(rakuten("taint", number, "--json").output)
    assert [batch["product_ids"] for batch in found["batches"]] == [[id_1, id_2], [id_2]]
    shown = rakuten("taint", number).output
    assert f"2 products had this productid at some time, with the ids {id_1}, {id_2}" in shown
    assert f"(id {id_1}): train" in shown
