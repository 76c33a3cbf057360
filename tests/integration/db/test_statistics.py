"""The planner knows the big tables when a batch is announced, and its plans stay good when it does not know them."""

import pytest
from history_queries import cases_of
from load_steps import finish, load_next
from long_history import TABLES, forget_statistics, write_history

from db.database import Role

ENTRIES = (
    10_000  # of products_history, after which a quadratic plan reads a hundred times as much as a linear one
)
FACTOR = 3


@pytest.fixture
def superuser(as_superuser):
    """A superuser's connection to a database that autovacuum leaves alone."""
    with as_superuser(autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"alter table {table} set (autovacuum_enabled = false)")
        yield connection


def rows_and_statistics(connection):
    """Return for each table how many rows it has, and how many rows the planner knows of."""
    known = dict(
        connection.execute(
            "select relname, reltuples::bigint from pg_class where oid = any(%s::regclass[])", [list(TABLES)]
        ).fetchall()
    )
    return {
        table: (connection.execute(f"select count(*) from {table}").fetchone()[0], known[table])
        for table in TABLES
    }


def require_statistics(connection):
    for table, (rows, known) in rows_and_statistics(connection).items():
        assert rows == known > 0, table
    joined = connection.execute(
        "select tablename, attname from pg_stats where schemaname = 'public'"
    ).fetchall()
    assert {
        ("products", "productid"),
        ("labels", "productid"),
        ("products_history", "product_id"),
        ("labels_history", "label_id"),
    } <= set(joined)


# ---- statistics


def test_every_batch_leaves_statistics_behind(loader, settings, training_set, apply, superuser):
    for _week in range(2):
        finish(loader, load_next(loader, settings, training_set))
        require_statistics(superuser)
    [productid] = superuser.execute("select min(productid) from products").fetchone()
    apply("productid,designation", (productid, "another title"))
    require_statistics(superuser)


def test_a_batch_that_somebody_completes_in_psql_leaves_statistics_behind(
    loader, settings, training_set, superuser
):
    batch_id = load_next(loader, settings, training_set)
    superuser.execute("update data_loads set status = 'completed' where id = %s", [batch_id])
    require_statistics(superuser)


def test_the_statistics_are_there_when_the_notification_arrives(loader, settings, training_set, superuser):
    batch_id = load_next(loader, settings, training_set)
    superuser.execute("listen batch_completed")
    loader.execute("select complete_batch(%s)", [batch_id])
    assert "product_id" not in known_columns(superuser)
    loader.commit()
    [_notification] = superuser.notifies(timeout=60, stop_after=1)
    assert "product_id" in known_columns(superuser)


def known_columns(connection):
    statement = "select attname from pg_stats where tablename = 'products_history'"
    return {name for (name,) in connection.execute(statement)}


def test_a_vacuum_of_the_history_delays_no_batch(loader, settings, training_set, superuser, as_superuser):
    batch_id = load_next(loader, settings, training_set)
    with as_superuser() as vacuum:
        vacuum.execute("lock table products_history in share update exclusive mode")  # VACUUM takes this lock
        finish(loader, batch_id)
    assert "product_id" not in known_columns(superuser)
    [status] = superuser.execute("select status from data_loads").fetchone()
    assert status == "completed"


# ---- plans


def rows_read(plan):
    """Count the rows that pass through all nodes of a plan, also those that a condition removes."""
    removed = sum(plan.get(f"Rows Removed by {by}", 0) for by in ("Filter", "Join Filter", "Index Recheck"))
    own = plan["Actual Loops"] * (plan["Actual Rows"] + removed)
    return own + sum(rows_read(child) for child in plan.get("Plans", []))


@pytest.fixture
def cases(as_role, superuser):
    """Every query over the big tables. The statistics are stale."""
    with as_role(Role.LOADER, autocommit=True) as loader:
        write_history(loader, superuser, ENTRIES)
    return cases_of(superuser)


def test_no_query_reads_much_more_without_good_statistics(cases, superuser):
    def reads(case, *before):
        with superuser.transaction(force_rollback=True):
            for statement in (*before, *case.before):
                superuser.execute(statement)
            explain = f"explain (analyze, timing off, format json) {case.statement}"
            [[[result]]] = superuser.execute(explain, case.parameters or None).fetchall()
            return rows_read(result["Plan"])

    read = {"stale": {name: reads(case) for name, case in cases.items()}}
    forget_statistics(superuser)
    read["missing"] = {name: reads(case) for name, case in cases.items()}
    # What a listener reads is never joined row by row, however few rows the planner expects.
    wrong = ("set local enable_hashjoin = off", "set local enable_mergejoin = off")
    read["wrong"] = {
        name: reads(case, *wrong) for name, case in cases.items() if name.startswith("snapshot/")
    }
    superuser.execute("analyze")
    fresh = {name: reads(case) for name, case in cases.items()}
    more = {
        f"{name} ({state})": (count, fresh[name])
        for state, counts in read.items()
        for name, count in counts.items()
        if count > FACTOR * fresh[name] + ENTRIES
    }
    assert not more
