"""The audit trail: every change leaves its entry, its author and its batch, and the past can be rebuilt from it."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from db.database import Role
from db.embedded.waiting import poll
from shared.events import BatchCompleted, ProductsAudited, parse

DEADLINE_S = 30


@pytest.fixture
def connection(as_role):
    with as_role(Role.OWNER, autocommit=True) as opened:
        yield opened


@pytest.fixture
def loader(as_role):
    with as_role(Role.LOADER, autocommit=True) as opened:
        yield opened


@pytest.fixture
def hear(as_role):
    """Start listening; then call what it returns for the events that have arrived since."""
    with as_role(Role.READER, autocommit=True) as ears:

        def listen(*channels: str) -> Callable[[], list[object]]:
            for channel in channels:
                ears.execute(f"listen {channel}")

            def heard() -> list[object]:
                ears.execute("select 1")  # whatever was committed before has been delivered with the answer
                return [parse(note.channel, note.payload) for note in ears.notifies(timeout=0)]

            return heard

        yield listen


def claim(loader, week: int) -> int:
    (batch_id,) = loader.execute("select claim_batch(%s, 50, '{}')", [f"week_{week}"]).fetchone()
    return batch_id


def insert(connection, *productids: int, designation: str = "a") -> None:
    connection.execute(
        "insert into products (productid, designation) select unnest(%s::bigint[]), %s",
        [list(productids), designation],
    )


def history(connection, table: str = "products") -> list[tuple]:
    columns = {"products": "productid, designation", "labels": "productid, prdtypecode"}[table]
    return connection.execute(
        f"select operation_type, {columns} from {table}_history order by history_id"
    ).fetchall()


def audited(table: str, operation: str, rows: int, batch_id: int | None = None) -> ProductsAudited:
    return ProductsAudited(v=1, batch_id=batch_id, table=table, operation=operation, rows=rows)


# ---- entries


def test_each_operation_leaves_the_row_it_made_or_took(connection):
    insert(connection, 5, 6)
    connection.execute("update products set designation = 'b' where productid = 5")
    connection.execute("delete from products where productid = 6")
    assert history(connection) == [
        ("INSERT", 5, "a"),
        ("INSERT", 6, "a"),
        ("UPDATE", 5, "b"),
        ("DELETE", 6, "a"),
    ]


def test_labels_are_audited_likewise(connection):
    connection.execute("insert into labels (productid, prdtypecode) values (5, 10), (6, 40)")
    connection.execute("update labels set prdtypecode = 2583 where productid = 5")
    connection.execute("delete from labels where productid = 6")
    assert history(connection, "labels") == [
        ("INSERT", 5, 10),
        ("INSERT", 6, 40),
        ("UPDATE", 5, 2583),
        ("DELETE", 6, 40),
    ]


@pytest.mark.parametrize("truncate", ["truncate {}", "truncate {} restart identity cascade"])
@pytest.mark.parametrize("table", ["products", "labels"])
def test_truncating_deletes_every_row_on_record(connection, table, truncate):
    insert(connection, 5, 6)
    connection.execute("insert into labels (productid, prdtypecode) values (5, 10), (6, 40)")
    connection.execute(truncate.format(table))
    assert [entry[:2] for entry in history(connection, table)][2:] == [("DELETE", 5), ("DELETE", 6)]
    assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)


def test_an_entry_holds_the_whole_row(connection):
    connection.execute(
        "insert into products (productid, designation, description, imageid, image_path, sample_rank, split) "
        "values (5, 'a', null, 7, 'p', 3, 'holdout')"
    )
    columns = "productid, designation, description, imageid, image_path, sample_rank, split"
    assert (
        connection.execute(f"select product_id, {columns} from products_history").fetchall()
        == connection.execute(f"select id, {columns} from products").fetchall()
    )


def test_an_update_that_changes_nothing_leaves_no_entry(connection):
    insert(connection, 5, 6)
    connection.execute(
        "update products set designation = case productid when 5 then 'b' else designation end"
    )
    connection.execute("update products set productid = productid, designation = designation")
    assert history(connection)[2:] == [("UPDATE", 5, "b")]


def test_null_and_text_are_told_apart(connection):
    insert(connection, 5)
    connection.execute("update products set designation = null")
    connection.execute("update products set designation = null")
    connection.execute("update products set designation = ''")
    assert history(connection)[1:] == [("UPDATE", 5, None), ("UPDATE", 5, "")]


def test_an_upsert_records_what_it_inserted_and_what_it_updated(connection):
    insert(connection, 5, 6)
    connection.execute(
        "insert into products (productid, designation) values (5, 'b'), (6, 'a'), (7, 'a') "
        "on conflict (productid) do update set designation = excluded.designation"
    )
    assert sorted(history(connection)[2:]) == [("INSERT", 7, "a"), ("UPDATE", 5, "b")]


def test_copied_rows_are_audited(connection):
    with connection.cursor().copy("copy products (productid, designation) from stdin (format csv)") as copy:
        copy.write("5,a\n6,b\n")
    assert history(connection) == [("INSERT", 5, "a"), ("INSERT", 6, "b")]


def test_a_transaction_that_is_rolled_back_leaves_nothing(as_role, connection, hear):
    heard = hear("products_audited")
    with as_role(Role.LOADER) as other:
        insert(other, 5)
        other.rollback()
    assert (history(connection), heard()) == ([], [])


def test_a_statement_that_fails_leaves_nothing_of_itself(as_role, connection):
    with as_role(Role.LOADER) as other:
        insert(other, 5)
        with pytest.raises(errors.UniqueViolation), other.transaction():
            insert(other, 6, 5)
    assert history(connection) == [("INSERT", 5, "a")]


# ---- who did it, and for which batch


@pytest.mark.parametrize("role", [Role.OWNER, Role.LOADER])
def test_an_entry_names_the_login_the_client_and_the_transaction(as_role, role):
    with as_role(role) as connection:
        insert(connection, 5)
        who = connection.execute(
            "select changed_by, application, transaction_id = txid_current() from products_history"
        ).fetchone()
    assert who == (role, "test", True)


def test_changes_within_a_batch_are_attributed_to_it(as_role):
    with as_role(Role.LOADER) as connection:
        batch_id = claim(connection, 1)
        connection.execute("select begin_batch(%s)", [batch_id])
        insert(connection, 5)
        connection.execute("insert into labels (productid, prdtypecode) values (5, 10)")
        connection.commit()
        insert(connection, 6)
        batches = connection.execute(
            "select load_batch_id from products_history order by history_id"
        ).fetchall()
        label_batches = connection.execute("select load_batch_id from labels_history").fetchall()
    assert batches == [(batch_id,), (None,)]  # the attribution ends with its transaction
    assert label_batches == [(batch_id,)]


@pytest.mark.parametrize(
    "setting", ["99", "0", "-1", "1.0", "1 ", "garbage", "1; drop table products", "9" * 40]
)
def test_a_forged_batch_is_refused_loudly(as_role, setting):
    with as_role(Role.LOADER) as connection:
        claim(connection, 1)
        connection.execute("select set_config('rakuten.batch_id', %s, true)", [setting])
        with pytest.raises(errors.InvalidParameterValue, match="names no running batch"):
            insert(connection, 5)


@pytest.mark.parametrize("end", ["complete_batch(1)", "fail_batch(1, 'x')"])
def test_a_batch_that_ended_takes_no_more_changes(loader, end):
    claim(loader, 1)
    loader.execute(f"select {end}")
    with loader.transaction():
        loader.execute("select set_config('rakuten.batch_id', '1', true)")
        with pytest.raises(errors.InvalidParameterValue), loader.transaction():
            insert(loader, 5)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="batch 1 is not running"):
        loader.execute("select begin_batch(1)")


# ---- notifications


def test_each_statement_rings_once_with_what_it_did(connection, loader, hear):
    heard = hear("products_audited")
    insert(connection, 5, 6, 7)
    connection.execute("insert into labels (productid, prdtypecode) values (5, 10)")
    connection.execute("update products set designation = 'b' where productid < 7")
    connection.execute("truncate products")
    batch_id = claim(loader, 1)
    with loader.transaction():
        loader.execute("select begin_batch(%s)", [batch_id])
        insert(loader, 8)
    assert heard() == [
        audited("products", "INSERT", 3),
        audited("labels", "INSERT", 1),
        audited("products", "UPDATE", 2),
        audited("products", "DELETE", 3),
        audited("products", "INSERT", 1, batch_id),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "insert into products (productid) select 1 where false",
        "update products set designation = 'b' where false",
        "update products set designation = designation",
        "delete from products where false",
        "insert into products (productid) values (5) on conflict do nothing",
    ],
)
def test_a_statement_that_changes_no_row_rings_no_bell(connection, hear, statement):
    insert(connection, 5)
    heard = hear("products_audited")
    connection.execute(statement)
    assert heard() == []
    assert len(history(connection)) == 1


def test_an_upsert_rings_for_each_thing_it_did(connection, hear):
    insert(connection, 5)
    heard = hear("products_audited")
    connection.execute(
        "insert into products (productid, designation) values (5, 'b'), (6, 'b') "
        "on conflict (productid) do update set designation = excluded.designation"
    )
    assert sorted(heard(), key=lambda event: event.operation) == [
        audited("products", "INSERT", 1),
        audited("products", "UPDATE", 1),
    ]


# ---- batches


def test_a_batch_is_sealed_whoever_completes_it(connection, as_superuser, hear):
    heard = hear("batch_completed")
    insert(connection, 5, 6)
    connection.execute("insert into data_loads (batch_name, percentage) values ('week_1', 40)")
    with as_superuser() as superuser:
        superuser.execute("update data_loads set status = 'completed', total_rows = 99 where id = 1")
    total_rows, completed, watermark = connection.execute(
        "select total_rows, completed_at is not null, metadata #>> '{audit,products_history_id}' from data_loads"
    ).fetchone()
    assert (total_rows, completed, watermark) == (2, True, "2")
    assert heard() == [BatchCompleted(v=1, batch_id=1)]


def test_a_completed_batch_is_neither_claimed_nor_failed_nor_completed_anew(loader, hear):
    claim(loader, 1)
    loader.execute("select complete_batch(1)")
    sealed = loader.execute("select * from data_loads").fetchall()
    heard = hear("batch_completed")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="batch 'week_1' is complete"):
        claim(loader, 1)
    loader.execute("select fail_batch(1, 'x')")
    loader.execute("select record_load(1, '{}')")
    loader.execute("select complete_batch(1)")
    assert loader.execute("select * from data_loads").fetchall() == sealed
    assert heard() == []


def test_what_stages_record_is_no_change_of_a_completed_batch(loader, as_role):
    claim(loader, 1)
    loader.execute("select complete_batch(1)")
    with as_role(Role.SNAPSHOT) as snapshot:
        assert snapshot.execute("select claim_stage(1, 'snapshot', 'w', 'start', '0')").fetchone() == (1,)


def blocks_somebody(connection, blocker) -> bool:
    (blocks,) = connection.execute(
        "select exists (select from pg_stat_activity where %s = any(pg_blocking_pids(pid)))",
        [blocker.info.backend_pid],
    ).fetchone()
    return blocks


@pytest.mark.parametrize("table", ["products", "labels"])
@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_completing_a_batch_waits_for_whoever_is_writing(loader, connection, as_role, table, outcome):
    insert(connection, 5)
    claim(loader, 1)
    with as_role(Role.OWNER) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute(
            "insert into products (productid) values (6)"
            if table == "products"
            else "insert into labels (productid, prdtypecode) values (6, 10)"
        )
        completing = pool.submit(loader.execute, "select complete_batch(1)")
        try:
            assert poll(lambda: blocks_somebody(connection, writer), timeout_s=DEADLINE_S)
            assert not completing.done()
        finally:
            getattr(writer, outcome)()
        completing.result(timeout=DEADLINE_S)
    watermarks, found = connection.execute(
        """
        select
            array[
                (metadata #>> '{audit,products_history_id}')::bigint,
                (metadata #>> '{audit,labels_history_id}')::bigint
            ],
            array[
                (select max(history_id) from products_history),
                (select coalesce(max(history_id), 0) from labels_history)
            ]
        from data_loads
        """
    ).fetchone()
    assert watermarks == found
    assert (
        connection.execute("select count(*) from products_as_of_batch(1)").fetchone()
        == connection.execute("select total_rows from data_loads").fetchone()
    )


def test_a_writer_waits_while_a_batch_is_being_completed_and_belongs_to_the_next(loader, connection, as_role):
    insert(connection, 5)
    claim(loader, 1)
    with as_role(Role.LOADER) as completer, ThreadPoolExecutor(1) as pool:
        completer.execute("select complete_batch(1)")
        writing = pool.submit(insert, connection, 6)
        try:
            assert poll(lambda: blocks_somebody(loader, completer), timeout_s=DEADLINE_S)
            assert not writing.done()
        finally:
            completer.commit()
        writing.result(timeout=DEADLINE_S)
    assert connection.execute("select productid from products_as_of_batch(1)").fetchall() == [(5,)]


# ---- the past


@dataclass
class Replay:
    """What PostgreSQL is asked to do, done in Python."""

    products: dict[int, str] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)

    def state(self) -> list[tuple]:
        return sorted(
            (productid, designation, self.labels.get(productid))
            for productid, designation in self.products.items()
        )

    def apply(self, connection, operation: str, productid: int, value: int) -> None:
        getattr(self, operation)(connection, productid, value)

    def put_product(self, connection, productid, value):
        self.products[productid] = str(value)
        connection.execute(
            "insert into products (productid, designation) values (%s, %s) "
            "on conflict (productid) do update set designation = excluded.designation",
            [productid, str(value)],
        )

    def put_label(self, connection, productid, value):
        self.labels[productid] = value
        connection.execute(
            "insert into labels (productid, prdtypecode) values (%s, %s) "
            "on conflict (productid) do update set prdtypecode = excluded.prdtypecode",
            [productid, value],
        )

    def delete_product(self, connection, productid, _value):
        self.products.pop(productid, None)
        connection.execute("delete from products where productid = %s", [productid])

    def delete_label(self, connection, productid, _value):
        self.labels.pop(productid, None)
        connection.execute("delete from labels where productid = %s", [productid])

    def rename_product(self, connection, productid, value):
        self._rename(connection, "products", self.products, productid, value)

    def rename_label(self, connection, productid, value):
        self._rename(connection, "labels", self.labels, productid, value)

    def _rename(self, connection, table, rows, productid, value):
        if productid in rows and value not in rows:
            rows[value] = rows.pop(productid)
            connection.execute(f"update {table} set productid = %s where productid = %s", [value, productid])

    def extend_texts(self, connection, _productid, value):
        self.products = {productid: f"{text}{value}" for productid, text in self.products.items()}
        connection.execute("update products set designation = designation || %s::text", [value])

    def empty_products(self, connection, _productid, _value):
        self.products.clear()
        connection.execute("truncate products")


OPERATIONS = [name for name in vars(Replay) if name not in {"state", "apply"} and not name.startswith("_")]
few_ids = st.integers(1, 2)
steps = st.tuples(st.sampled_from(OPERATIONS), few_ids, few_ids)


def products_of(connection, function: str, argument: object) -> list[tuple]:
    rows = connection.execute(
        f"select productid, designation, prdtypecode from {function}(%s)", [argument]
    ).fetchall()
    return sorted(rows)


@pytest.fixture
def weeks():
    return itertools.count(1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps | st.just("complete"), min_size=5, max_size=30))
def test_products_as_of_any_batch_are_what_they_were(connection, loader, weeks, history):
    connection.execute("truncate products, labels, products_history, labels_history")
    replay, then = Replay(), {}
    for step in [*history, "complete"]:
        if step == "complete":
            batch_id = claim(loader, next(weeks))
            loader.execute("select complete_batch(%s)", [batch_id])
            then[batch_id] = replay.state()
        else:
            replay.apply(connection, *step)
    assert {batch_id: products_of(connection, "products_as_of_batch", batch_id) for batch_id in then} == then


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, max_size=15))
def test_products_as_of_any_moment_are_what_they_were(connection, history):
    connection.execute("truncate products, labels, products_history, labels_history")
    replay, then = Replay(), {}
    for step in history:
        replay.apply(connection, *step)
        (moment,) = connection.execute("select clock_timestamp()").fetchone()
        then[moment] = replay.state()
    assert {moment: products_of(connection, "products_as_of", moment) for moment in then} == then


@pytest.mark.parametrize("batch_id", [None, 0, 1, 99])
def test_a_batch_that_is_unknown_or_not_complete_has_no_products(connection, loader, batch_id):
    claim(loader, 1)
    insert(connection, 5)
    assert products_of(connection, "products_as_of_batch", batch_id) == []


def test_the_present_equals_the_past_of_this_moment(connection):
    insert(connection, 5, 6)
    connection.execute("insert into labels (productid, prdtypecode) values (5, 10), (6, 40)")
    assert (
        connection.execute("select * from products_as_of(clock_timestamp()) order by id").fetchall()
        == connection.execute(
            "select products.id, productid, designation, description, imageid, image_path, sample_rank, split, prdtypecode "
            "from products left join labels using (productid) order by products.id"
        ).fetchall()
    )
