"""The schema: made from nothing, twice or by two at once, and each role kept to its own step."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors, sql

from db import schema
from db.database import Database, Role
from shared.config import read_settings
from shared.errors import DatabaseUnavailableError

STRANGER = "stranger"
TABLES = {"products", "labels", "data_loads", "products_history", "labels_history"}


@contextmanager
def empty_database(server, name):
    """A database without the schema, in the cluster where the roles exist already."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        identifier = sql.Identifier(name)
        connection.execute(
            sql.SQL("create database {} owner {} template template0").format(
                identifier, sql.Identifier(Role.OWNER)
            )
        )
        try:
            yield Database(read_settings(postgres_db=name), server)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(identifier))


@pytest.fixture(scope="module")
def upgraded(server):
    """A database that was upgraded itself: privileges on a database are not copied from its template."""
    with empty_database(server, "upgraded") as database:
        database.upgrade()
        yield database


def tables_of(database: Database) -> set[str]:
    with psycopg.connect(database.conninfo(Role.OWNER)) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    return {name for (name,) in rows}


# ---- upgrading


def test_an_empty_database_gets_every_table(server):
    with empty_database(server, "from_empty") as database:
        before, after = database.upgrade()
        assert before is None
        assert after is not None
        assert tables_of(database) == TABLES | {"alembic_version"}


def test_an_upgraded_database_is_left_alone(server):
    with empty_database(server, "twice") as database:
        _, first = database.upgrade()
        assert database.upgrade() == (first, first)


def test_an_older_schema_is_brought_up_to_date_with_its_data_untouched(server):
    contents = "select (select jsonb_agg(products) from products), (select jsonb_agg(entry) from products_history as entry)"
    with empty_database(server, "older") as database:
        database.upgrade()
        with psycopg.connect(database.conninfo(Role.OWNER)) as connection:
            connection.execute("insert into products (productid, designation) values (7, 'Lampe')")
            before = connection.execute(contents).fetchone()
            connection.execute("update alembic_version set version_num = '0001'")
            connection.execute("drop function pipeline_doctor, reopen_stage; drop view stage_ledger cascade")
            connection.execute(
                "create function pipeline_doctor(patience interval) returns text return 'of 0001'"
            )
        assert database.upgrade() == ("0001", "0003")
        with psycopg.connect(database.conninfo(Role.OWNER)) as connection:
            assert connection.execute(contents).fetchone() == before
            connection.execute("select from pipeline_doctor()")  # one that is unambiguous again


def test_upgrades_that_start_at_once_do_it_once(server):
    with empty_database(server, "at_once") as database, ThreadPoolExecutor(4) as pool:
        start = threading.Barrier(4)

        def upgrade(_):
            start.wait(timeout=60)
            return schema.upgrade(database.conninfo(Role.OWNER))

        versions = list(pool.map(upgrade, range(4)))
        assert sum(before is None for before, _ in versions) == 1
        assert len({after for _, after in versions}) == 1
        assert tables_of(database) >= TABLES


def test_upgrades_of_two_databases_of_one_cluster_do_not_disturb_each_other(server):
    program = "import sys; from db.schema import upgrade; upgrade(sys.argv[1])"
    with empty_database(server, "one") as one, empty_database(server, "other") as other:
        processes = [
            subprocess.Popen([sys.executable, "-c", program, database.conninfo(Role.OWNER)])
            for database in (one, other)
        ]
        assert [process.wait(timeout=60) for process in processes] == [0, 0]
        assert tables_of(one) == tables_of(other) == TABLES | {"alembic_version"}


@pytest.mark.parametrize(("role", "may"), [(role, role in {Role.OWNER, Role.LOADER}) for role in Role])
def test_only_the_loader_makes_temporary_tables(upgraded, role, may):
    with psycopg.connect(upgraded.conninfo(role)) as connection:
        outcome = run_alone(connection, "create temporary table x ()")
    assert (outcome is None) == may


def test_a_server_that_is_not_there_is_named(database):
    conninfo = psycopg.conninfo.make_conninfo(database.conninfo(Role.OWNER), port=1)
    with pytest.raises(DatabaseUnavailableError, match=r"127\.0\.0\.1:1"):
        schema.upgrade(conninfo)


# ---- privileges


@pytest.fixture
def seeded(as_role):
    """A product, its label and history, a completed batch and a running one."""
    with as_role(Role.LOADER) as connection:
        connection.execute("select claim_batch('week_1', 40, '{}')")
        connection.execute("select begin_batch(1)")
        connection.execute("insert into products (productid, designation) values (5, 'a')")
        connection.execute("insert into labels (productid, prdtypecode) values (5, 10)")
        connection.commit()
        connection.execute("select complete_batch(1)")
        connection.commit()
        connection.execute("select claim_batch('week_2', 43, '{}')")


@pytest.fixture
def stranger(server, database):
    """A login of the cluster that nobody gave anything."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(f"create role {STRANGER} login password 'x'")
        try:
            yield server.conninfo(database.settings.postgres_db, STRANGER, "x")
        finally:
            connection.execute(f"drop role {STRANGER}")


HISTORY_WRITES = [
    statement
    for table in ("products_history", "labels_history")
    for statement in (
        f"update {table} set productid = 1",
        f"delete from {table}",
        f"truncate {table}",
    )
]
FORGED_HISTORY = [
    "insert into products_history overriding system value select * from products_history",
    "insert into labels_history overriding system value select * from labels_history",
]
PRODUCT_WRITES = [
    "insert into products (productid) values (1)",
    "update products set designation = 'b'",
    "delete from products",
    "truncate products",
    "insert into labels (productid, prdtypecode) values (1, 1)",
    "update labels set prdtypecode = 1",
    "delete from labels",
    "truncate labels",
]
BATCH_WRITES = [
    "insert into data_loads (batch_name, percentage, status) values ('x', 1, 'completed')",
    "update data_loads set metadata = '{}'",
    "delete from data_loads",
    "truncate data_loads",
]
LOADER_STEPS = [
    "select claim_batch('week_3', 46, '{}')",
    "select begin_batch(2)",
    "select record_load(2, '{}')",
    "select fail_batch(2, 'x')",
    "select complete_batch(2)",
]
INTERNALS = [
    "select current_batch_id()",
    "select notify_audited(1, 'products', 'INSERT', 1)",
    "select ring_stage(1, 'snapshot')",
    "select record_stage(1, 'snapshot', 1, '{}')",
    "create table public.x ()",
    "create function public.x() returns int language sql return 1",
    "drop table products",
    "alter table products disable trigger all",
    "drop trigger _000_append_only on products_history",
    "set session_replication_role = replica",
    "set role rakuten_owner",
    "truncate alembic_version",
]


def stage_steps(stage: str) -> list[str]:
    return [
        f"select claim_stage(1, '{stage}', 'w', 'start', '0')",
        f"select hold_stage(1, '{stage}', 1)",
        f"select finish_stage(1, '{stage}', 1, '{{}}')",
        f"select fail_stage(1, '{stage}', 1, 'x', null)",
        f"select release_stage(1, '{stage}', 1)",
        f"select retry_stage(1, '{stage}')",
    ]


EVERYWHERE = [*HISTORY_WRITES, *FORGED_HISTORY, *BATCH_WRITES, *INTERNALS]
READS = [
    f"select * from {name}"
    for name in (
        *sorted(TABLES),
        "pipeline_status",
        "training_products",
        "products_as_of_batch(1)",
        "products_as_of(now())",
        "pending_batches('snapshot')",
    )
]
DENIED = {
    Role.LOADER: [
        *EVERYWHERE,
        "delete from products",
        "truncate products",
        "delete from labels",
        "truncate labels",
        *stage_steps("snapshot"),
        *stage_steps("training"),
    ],
    Role.SNAPSHOT: [
        *EVERYWHERE,
        *PRODUCT_WRITES,
        *LOADER_STEPS,
        *stage_steps("training"),
    ],
    Role.TRAINING: [
        *EVERYWHERE,
        *PRODUCT_WRITES,
        *LOADER_STEPS,
        *stage_steps("snapshot"),
        *(f"select * from {name}" for name in sorted(TABLES - {"data_loads"})),
        "select * from training_products",
        "select * from products_as_of_batch(1)",
        "select * from products_as_of(now())",
    ],
    Role.READER: [
        *EVERYWHERE,
        *PRODUCT_WRITES,
        *LOADER_STEPS,
        *stage_steps("snapshot"),
        *stage_steps("training"),
    ],
}
ALLOWED = {
    Role.LOADER: [
        *(f"select * from {name}" for name in sorted(TABLES)),
        "select * from pipeline_status",
        "insert into products (productid) values (1)",
        "insert into labels (productid, prdtypecode) values (1, 1)",
        "update labels set prdtypecode = 1",
        "select begin_batch(2)",
        "select fail_batch(2, 'x')",
    ],
    Role.SNAPSHOT: [*READS, *stage_steps("snapshot")[:1]],
    Role.TRAINING: [
        "select * from data_loads",
        "select * from pipeline_status",
        "select * from pending_batches('training')",
        *stage_steps("training")[:1],
    ],
    Role.READER: READS,
}


def run_alone(connection, statement):
    """Run a statement and take it back; what it raised, if anything."""
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        return error
    finally:
        connection.rollback()
    return None


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("role", DENIED)
def test_a_role_is_denied_what_is_not_its_step(as_role, role):
    with as_role(role) as connection:
        outcomes = {statement: run_alone(connection, statement) for statement in DENIED[role]}
    assert [
        (statement, outcome)
        for statement, outcome in outcomes.items()
        if not isinstance(outcome, errors.InsufficientPrivilege)
    ] == []


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_may_do_its_own_step(as_role, role):
    with as_role(role) as connection:
        outcomes = {statement: run_alone(connection, statement) for statement in ALLOWED[role]}
    assert {statement: outcome for statement, outcome in outcomes.items() if outcome is not None} == {}


@pytest.mark.usefixtures("seeded")
def test_another_login_sees_and_does_nothing(stranger):
    statements = [
        *EVERYWHERE,
        *PRODUCT_WRITES,
        *LOADER_STEPS,
        *READS,
        *stage_steps("snapshot"),
        *stage_steps("training"),
    ]
    with psycopg.connect(stranger) as connection:
        outcomes = {statement: run_alone(connection, statement) for statement in statements}
    # Without USAGE on the schema, a name in it is not even found.
    refused = (errors.InsufficientPrivilege, errors.UndefinedTable, errors.UndefinedFunction)
    assert [
        (statement, outcome) for statement, outcome in outcomes.items() if not isinstance(outcome, refused)
    ] == []


def test_no_function_is_open_to_everybody(as_superuser):
    with as_superuser() as connection:
        open_functions = connection.execute(
            """
            select proname from pg_proc
            where pronamespace = 'public'::regnamespace
                and exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0)
            """
        ).fetchall()
    assert open_functions == []


def test_every_security_definer_function_fixes_its_search_path(as_superuser):
    with as_superuser() as connection:
        loose = connection.execute(
            """
            select proname from pg_proc
            where pronamespace = 'public'::regnamespace and prosecdef
                and not coalesce(proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']
            """
        ).fetchall()
    assert loose == []


def test_every_trigger_fires_always(as_superuser):
    with as_superuser() as connection:
        switchable = connection.execute(
            "select tgrelid::regclass::text, tgname from pg_trigger where not tgisinternal and tgenabled <> 'A'"
        ).fetchall()
    assert switchable == []


# ---- the history is append-only, whoever asks


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("replication_role", ["origin", "replica"])
@pytest.mark.parametrize("statement", HISTORY_WRITES)
def test_even_a_superuser_rewrites_no_history(as_superuser, statement, replication_role):
    with as_superuser() as connection:
        connection.execute(f"set session_replication_role = {replication_role}")
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            connection.execute(statement)


@pytest.mark.usefixtures("seeded")
def test_replica_mode_does_not_switch_the_audit_off(as_superuser):
    with as_superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update products set designation = 'b'")
        connection.execute("truncate labels")
        operations = connection.execute(
            "select operation_type from products_history union all select operation_type from labels_history "
            "order by 1"
        ).fetchall()
    assert operations == [("DELETE",), ("INSERT",), ("INSERT",), ("UPDATE",)]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("table", ["products", "labels"])
def test_a_row_keeps_its_id_so_that_the_audit_can_follow_it(as_superuser, table):
    with (
        as_superuser() as connection,
        pytest.raises(errors.InsufficientPrivilege, match="id does not change"),
    ):
        connection.execute(f"update {table} set id = default")


def test_a_temporary_type_cannot_borrow_the_owners_rights(as_role, load_weeks):
    """With an empty search_path, a function of the owner would take `text` for the loader's domain, and run its check."""
    load_weeks(1)
    with as_role(Role.LOADER) as connection:
        connection.execute(
            "create function pg_temp.evil(value pg_catalog.text) returns boolean language plpgsql as"
            " $$ begin delete from public.products_history; return true; end $$"
        )
        connection.execute("create domain pg_temp.text as pg_catalog.text check (pg_temp.evil(value))")
        connection.execute("insert into public.labels (productid, prdtypecode) values (1, 10)")
        [kept] = connection.execute("select count(*) from public.products_history").fetchone()
    assert kept > 0
