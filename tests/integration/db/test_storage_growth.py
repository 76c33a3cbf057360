"""The view `storage_growth` estimates how many bytes the pipeline gains a week, from what the stages and the loads recorded."""

import pytest
from long_history import LABELS, PRODUCTS, RETITLE, write_batch
from psycopg.types.json import Jsonb

from db.database import Role

TABLES = ("products", "labels", "products_history", "labels_history", "data_loads")


@pytest.fixture
def add_week(loader):
    """Load a week of new products: `add_week(2, 100)`. Products are numbered on."""
    loader.autocommit = True
    numbers = {"next": 1}

    def add(week: int, products: int) -> None:
        first = numbers["next"]
        numbers["next"] += products
        write_batch(loader, f"week_{week}", [(PRODUCTS, [first, first + products - 1]), (LABELS, [first])])

    return add


@pytest.fixture
def correct(loader):
    """Load a correction that changes 7.5 % of the products."""
    loader.autocommit = True
    return lambda number: write_batch(loader, f"correction_{number}", [(RETITLE, [f" {number}", number])])


@pytest.fixture
def publish(as_role, reader):
    """Record what a stage published for a batch: `publish("snapshot", "week_1", {"train_week_1.parquet": 100})`."""

    def record(stage: str, batch_name: str, sizes: dict | None, **result: object) -> None:
        [batch_id] = reader.execute("select id from batches where batch_name = %s", [batch_name]).fetchone()
        result |= {"run_id": f"{stage} of {batch_name}", "dataset": f"train_{batch_name}"}
        result |= {} if sizes is None else {"artifact_bytes": sizes}
        with as_role(Role(f"rakuten_{stage}")) as connection:
            connection.execute("select claim_stage(%s, %s, 'w', 'start', '0')", [batch_id, stage])
            connection.execute("select finish_stage(%s, %s, 1, %s)", [batch_id, stage, Jsonb(result)])

    return record


def growth(connection):
    rows = connection.execute("select object, bytes, bytes_per_week from storage_growth").fetchall()
    return {name: (size, per_week) for name, size, per_week in rows}


def test_it_has_a_row_for_each_row_of_storage(reader, add_week, publish):
    add_week(1, 50)
    publish("snapshot", "week_1", {"train_week_1.parquet": 100}, fixed_sets={"holdout_df": {"run_id": "h"}})
    statement = "select kind, object, bytes from {} order by kind, object"
    assert (
        reader.execute(statement.format("storage_growth")).fetchall()
        == reader.execute(statement.format("storage")).fetchall()
    )


def test_an_empty_database_and_a_first_week_have_no_growth(reader, add_week, publish):
    assert {per_week for _size, per_week in growth(reader).values()} == {None}
    add_week(1, 50)
    publish("snapshot", "week_1", {"train_week_1.parquet": 100})
    assert {per_week for _size, per_week in growth(reader).values()} == {None}


def test_a_table_grows_by_the_rows_of_a_week(reader, add_week):
    add_week(1, 400)
    for week in (2, 3):
        add_week(week, 50)
    shown = growth(reader)
    for name in ("products", "labels", "products_history", "labels_history"):
        size, per_week = shown[name]
        assert per_week == round(size * 50 / 500)
    size, per_week = shown["data_loads"]
    assert per_week == round(size / 3)


def test_the_database_grows_by_what_its_tables_grow(reader, add_week):
    add_week(1, 400)
    add_week(2, 50)
    shown = growth(reader)
    _size, per_week = shown[reader.info.dbname]
    assert abs(per_week - sum(shown[name][1] for name in TABLES)) <= len(TABLES)  # each is rounded


def test_only_the_last_four_weeks_count(reader, add_week):
    add_week(1, 400)
    for week, products in enumerate((300, 10, 20, 30, 40), start=2):
        add_week(week, products)
    size, per_week = growth(reader)["products"]
    assert per_week == round(size * 25 / 800)


def test_a_correction_counts_to_the_week_that_it_came_in(reader, add_week, correct, publish):
    add_week(1, 400)
    add_week(2, 50)
    correct(1)
    correct(2)
    add_week(3, 50)
    for batch_name, size in (
        ("week_1", 7),
        ("week_2", 10),
        ("correction_1", 11),
        ("correction_2", 12),
        ("week_3", 13),
    ):
        publish("snapshot", batch_name, {f"train_{batch_name}.parquet": 100 * size, "dataset_stats.json": 1})
        publish("training", batch_name, {"model": size})
    shown = growth(reader)
    assert shown["datasets"] == (5305, round((3303 + 1301) / 2))
    assert shown["training_snapshots"] == (5300, round((3300 + 1300) / 2))
    assert shown["models"] == (53, round((33 + 13) / 2))
    [entries] = reader.execute("select max(history_id) from products_history").fetchone()
    [of_week_1] = reader.execute("select products_up_to from batches where batch_name = 'week_1'").fetchone()
    size, per_week = shown["products_history"]
    assert per_week == round(size * (entries - of_week_1) / 2 / entries)


def test_weeks_are_counted_in_the_order_of_the_chain(reader, loader, add_week):
    """A failed week may be completed later; its number says nothing about when its rows came."""
    add_week(1, 400)
    add_week(3, 10)
    add_week(2, 50)
    size, per_week = growth(reader)["products"]
    assert per_week == round(size * 30 / 460)


def test_deleted_rows_do_not_make_a_table_smaller(reader, loader, add_week):
    add_week(1, 400)
    add_week(2, 50)
    write_batch(loader, "correction_1", [("delete from products where id %% 2 = 0", [])])
    size, per_week = growth(reader)["products"]
    assert per_week == round(size * 50 / 450)


def test_a_week_without_recorded_sizes_does_not_count(reader, add_week, publish):
    """A stage of an earlier version recorded no sizes, and a stage that still works on its week has recorded nothing yet."""
    for week, size in ((1, 100), (2, None), (3, 300)):
        add_week(week, 50)
        publish("snapshot", f"week_{week}", None if size is None else {f"train_week_{week}.parquet": size})
        publish("training", f"week_{week}", None)
    add_week(4, 50)
    shown = growth(reader)
    assert shown["datasets"] == (400, 300)
    assert shown["training_snapshots"] == (400, 300)
    assert shown["models"] == (0, None)


def test_the_fixed_sets_do_not_grow(reader, add_week, publish):
    for week in (1, 2):
        add_week(week, 50)
        fixed = {"holdout_df": {"run_id": "h", "artifact_bytes": {"holdout_df.parquet": 70}}}
        publish("snapshot", f"week_{week}", {f"train_week_{week}.parquet": 100}, fixed_sets=fixed)
    assert growth(reader)["holdout_df"] == (70, 0)


def test_the_write_ahead_log_has_a_size_and_no_growth(reader, add_week):
    add_week(1, 50)
    add_week(2, 50)
    size, per_week = growth(reader)["pg_wal"]
    assert size >= 16 * 2**20  # a segment
    assert per_week is None


def test_without_the_right_to_list_its_files_the_write_ahead_log_has_no_row(reader, as_superuser):
    with as_superuser(autocommit=True) as superuser:
        superuser.execute("revoke execute on function pg_ls_waldir() from rakuten_owner")
    assert set(growth(reader)) == {reader.info.dbname, *TABLES}
