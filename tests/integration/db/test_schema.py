"""The schema: made from nothing, twice or by two at once, and each role able to do its own step."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from empty_database import empty_database
from psycopg import sql

from db import schema
from db.database import Database, Role
from db.protections import deviations
from db.sql import schema_scripts
from shared.config import read_settings
from shared.errors import DatabaseUnavailableError, PipelineError

TABLES = {
    "products",
    "labels",
    "data_loads",
    "products_history",
    "labels_history",
    "confirmed_labels",
    "champion_moves",
    "verifications",
}
PUBLIC_FUNCTIONS = ["pipeline_doctor", "products_as_of", "products_as_of_batch", "products_diff"]


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


def test_scripts_run_again_when_one_has_changed(server, monkeypatch):
    scripts = list(schema_scripts())
    with empty_database(server, "changed_script") as database:
        database.upgrade()
        monkeypatch.setattr(
            "db.sql.schema_scripts", lambda: [*scripts, ("999.sql", "create table another ()")]
        )
        database.upgrade()
        with psycopg.connect(database.conninfo(Role.OWNER)) as connection:
            connection.execute("select from another")


def test_scripts_that_run_again_leave_the_data_untouched(server):
    contents = "select (select jsonb_agg(products) from products), (select jsonb_agg(entry) from products_history as entry)"
    with empty_database(server, "again") as database:
        database.upgrade()
        with psycopg.connect(database.conninfo(Role.OWNER)) as connection:
            connection.execute("insert into products (productid, designation) values (7, 'Lampe')")
            before = connection.execute(contents).fetchone()
            connection.execute("comment on table alembic_version is 'another digest'")
        database.upgrade()
        with psycopg.connect(database.conninfo(Role.OWNER)) as connection:
            assert connection.execute(contents).fetchone() == before


def test_the_functions_of_an_earlier_version_move_to_the_schema_internal(database, as_superuser, load_weeks):
    load_weeks(1)
    with as_superuser() as connection:
        connection.execute(f"set role {Role.OWNER}")
        for name in ("record_champion_moves", "record_verification", "pipeline_metrics", "storage_metrics"):
            connection.execute(f"drop function internal.{name}")
        connection.execute("""
            do $$
            declare
                moved regprocedure;
            begin
                for moved in select oid from pg_proc where pronamespace = 'internal'::regnamespace loop
                    execute format('alter function %s set schema public', moved);
                end loop;
            end;
            $$
        """)
        connection.execute("drop schema internal")
        connection.execute("drop view model_servers, storage_growth, storage")
        connection.execute("drop function model_server_sessions, artifact_files, wal_bytes")
        # and the views that read them
        connection.execute("drop table confirmed_labels, champion_moves, verifications cascade")
        connection.execute("create function of_another() returns int language sql return 1")
        connection.execute("update alembic_version set version_num = '0001'")
        connection.execute("comment on table alembic_version is 'the scripts of an earlier version'")
    database.upgrade()
    with database.connect(Role.READER, "test") as connection:
        assert deviations(connection) == []
    load_weeks(1)
    with as_superuser() as connection:
        rows = connection.execute(
            "select proname from pg_proc where pronamespace = 'public'::regnamespace order by 1"
        )
        assert [name for (name,) in rows] == ["of_another", *PUBLIC_FUNCTIONS]


def test_psql_lists_only_the_functions_for_people(server, database):
    command = [server.program("psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--command", r"\df"]
    listed = subprocess.run(
        [*command, database.conninfo(Role.READER)], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split("|")[1] for line in listed.splitlines()] == PUBLIC_FUNCTIONS


def test_a_schema_of_another_version_is_refused_by_name(server):
    with empty_database(server, "unknown_revision") as database:
        database.upgrade()
        with psycopg.connect(database.conninfo(Role.OWNER)) as connection:
            connection.execute("update alembic_version set version_num = '9999'")
        with pytest.raises(
            PipelineError, match="schema revision 9999, which this version of rakuten does not know"
        ):
            database.upgrade()


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


def test_a_role_that_may_not_upgrade_gets_the_error_of_postgresql(server):
    with empty_database(server, "not_owned") as database, pytest.raises(psycopg.errors.InsufficientPrivilege):
        schema.upgrade(database.conninfo(Role.READER))


def test_a_schema_named_like_the_login_is_not_used(server):
    with empty_database(server, "own_schema") as database:
        with psycopg.connect(server.conninfo("own_schema")) as superuser:
            superuser.execute(
                sql.SQL("create schema {0} authorization {0}").format(sql.Identifier(Role.OWNER))
            )
        database.upgrade()
        assert tables_of(database) == TABLES | {"alembic_version"}


def test_a_database_that_cannot_hold_every_text_is_refused(server):
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database latin1 owner {} template template0 encoding LATIN1 locale 'C'").format(
                sql.Identifier(Role.OWNER)
            )
            if server.version < 17
            else sql.SQL(
                "create database latin1 owner {} template template0 encoding LATIN1 locale_provider libc locale 'C'"
            ).format(sql.Identifier(Role.OWNER))
        )
        try:
            with pytest.raises(PipelineError, match="has the encoding LATIN1") as refused:
                Database(read_settings(postgres_db="latin1"), server).upgrade()
        finally:
            connection.execute("drop database latin1 with (force)")
    assert "encoding 'UTF8'" in refused.value.remedy


# ---- privileges: what a role may do; what it may not is in tests/security


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


READS = [
    f"select * from {name}"
    for name in (
        *sorted(TABLES),
        "batches",
        "pipeline_status",
        "training_products",
        "categories",
        "class_distribution",
        "drift",
        "storage",
        "storage_growth",
        "products_as_of_batch(1)",
        "products_as_of(now())",
        "pending_batches('snapshot')",
    )
]
ALLOWED = {
    Role.LOADER: [
        *(f"select * from {name}" for name in sorted(TABLES)),
        "select * from batches",
        "select * from pipeline_status",
        "insert into products (productid) values (1)",
        "insert into labels (productid, prdtypecode) values (1, 1)",
        "update labels set prdtypecode = 1",
        "select begin_batch(2)",
        "select fail_batch(2, 'x')",
    ],
    Role.SNAPSHOT: [*READS, "select claim_stage(1, 'snapshot', 'w', 'start', '0')"],
    Role.TRAINING: [
        "select * from data_loads",
        "select * from batches",
        "select * from pipeline_status",
        "select * from pending_batches('training')",
        "select claim_stage(1, 'training', 'w', 'start', '0')",
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
@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_may_do_its_own_step(as_role, role):
    with as_role(role) as connection:
        outcomes = {statement: run_alone(connection, statement) for statement in ALLOWED[role]}
    assert {statement: outcome for statement, outcome in outcomes.items() if outcome is not None} == {}


def test_no_text_is_longer_than_readers_count_on(as_superuser):
    with as_superuser() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("insert into products (productid, description) values (1, repeat('x', 100001))")
