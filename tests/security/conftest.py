"""Attacks, each made twice: against the protection, and once more with the protection taken away."""

import itertools
from contextlib import contextmanager

import psycopg
import pytest
import search_path
from attacks import STRANGER, Target
from psycopg import sql

from db.database import Database, Role
from db.sql import schema_scripts
from shared.config import read_settings

_numbers = itertools.count()

# What the attacks find: a batch in each state, by its id. Products and labels are there, and so is their history.
_SEED = """
select claim_batch('week_1', 40, '{}'), begin_batch(1);
insert into products (productid, designation) values (5, 'a'), (6, 'b');
insert into labels (productid, prdtypecode) values (5, 10), (6, 40);
insert into confirmed_labels (productid, prdtypecode) values (5, 10);
insert into champion_moves (move_sha256, number, kind, to_version, moved_at, moved_by, reason)
values
    ('5ea1', 1, 'promotion', 1, now(), 'model_week_1', 'there is no champion yet'),
    ('5ea2', 2, 'promotion', 2, now(), 'model_week_2', 'not significantly worse');
insert into verifications (verified_by, checks, problems) values ('rakuten_reader', 7, 1), ('rakuten_reader', 7, 0);
select complete_batch(1);
select set_config('rakuten.batch_id', '', true);
do $$
begin
    for week in 2..9 loop
        perform claim_batch('week_' || week, 40 + week, '{}');
        perform complete_batch(week);
    end loop;
end;
$$;
select claim_stage(n, 'snapshot', 'w', 'start', '0') from unnest(array[1, 2, 3, 4, 6, 7]) as n;
select finish_stage(n, 'snapshot', 1, '{"run_id": "r"}') from unnest(array[2, 4, 6, 7]) as n;
select fail_stage(3, 'snapshot', 1, 'x', null);
select claim_stage(n, 'training', 'w', 'start', '0') from unnest(array[2, 4, 7]) as n;
select fail_stage(4, 'training', 1, 'x', null);
select finish_stage(7, 'training', 1, '{"run_id": "r"}');
select claim_batch('week_10', 60, '{}');
select fail_batch(10, 'x');
select claim_batch('week_11', 61, '{}');
"""


@pytest.fixture(params=[True, False], ids=["protected", "taken away"])
def protected(request) -> bool:
    """Whether the protection stands: the harm of an attack is to be the opposite of it."""
    return request.param


@pytest.fixture(scope="session")
def stranger(server):
    """A login that nobody gave anything: a connection string without a database."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(f"create role {STRANGER} login password 'x'")
        yield server.conninfo(user=STRANGER, password="x")  # noqa: S106
        connection.execute(f"drop role {STRANGER}")


@contextmanager
def copy_of(server, template: str):
    """A copy of a database, by its name."""
    name = f"attacked_{next(_numbers)}"
    strategy = sql.SQL("strategy file_copy") if server.version >= 15 else sql.SQL("")
    statement = sql.SQL("create database {} owner {} template {} {}")
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(
            statement.format(
                sql.Identifier(name), sql.Identifier(Role.OWNER), sql.Identifier(template), strategy
            )
        )
        try:
            yield name
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def seeded(server):
    """The name of a database with rows, and with a batch in each state."""
    with copy_of(server, "template_rakuten") as name:
        with psycopg.connect(server.conninfo(name), options=search_path.OPTION) as connection:
            connection.execute(_SEED)
        yield name


@contextmanager
def target_in(server, seeded, stranger):
    with copy_of(server, seeded) as name:
        database = Database(read_settings(postgres_db=name, _env_file=None), server)
        with psycopg.connect(database.conninfo(Role.OWNER), options=search_path.OPTION) as owner:
            # privileges on a database are not copied with it
            owner.execute(dict(schema_scripts())["100_roles_and_grants.sql"])
        with psycopg.connect(server.conninfo(name), autocommit=True, options=search_path.OPTION) as superuser:
            yield Target(database, superuser, stranger)


@pytest.fixture
def target(server, seeded, stranger):
    """A database of the test's own to be attacked."""
    with target_in(server, seeded, stranger) as made:
        yield made


@pytest.fixture(scope="module")
def guarded(server, seeded, stranger):
    """A database for attacks that are refused and leave nothing behind."""
    with target_in(server, seeded, stranger) as made:
        yield made
