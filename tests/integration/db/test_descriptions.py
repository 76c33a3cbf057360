"""Every object that people see in psql says what it is, and class names are the same in SQL and in Python."""

import re

import categories_script
import psycopg
import pytest
from repository import ROOT

from db.database import Role
from db.sql import schema_scripts
from shared.categories import CATEGORIES

# Kind, name and description of each table, view, column, function and role of ours.
DESCRIPTIONS = f"""
    select 'relation', relname, obj_description(oid, 'pg_class')
    from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')
    union all
    select 'column', relname || '.' || attname, col_description(attrelid, attnum)
    from pg_class
    join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')
    union all
    select 'function', proname, obj_description(oid, 'pg_proc')
    from pg_proc
    where pronamespace in ('public'::regnamespace, 'internal'::regnamespace)
    union all
    select 'role', rolname, shobj_description(oid, 'pg_authid')
    from pg_roles
    where rolname in ({", ".join(f"'{role}'" for role in Role)})
"""
ROLES_SCRIPT = "140_describe_roles.sql"


def descriptions(connection):
    rows = connection.execute(DESCRIPTIONS).fetchall()
    assert {kind for kind, _name, _text in rows} == {"relation", "column", "function", "role"}
    return {f"{kind} {name}": text for kind, name, text in rows}


def without_sentence(connection):
    return sorted(
        name
        for name, text in descriptions(connection).items()
        if not re.fullmatch(r"[A-Z].{10,}\.", text or "")
    )


def test_every_object_has_a_sentence_that_describes_it(reader):
    assert without_sentence(reader) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("create table another ()", "relation another"),
        ("create view another as select 1", "column another.?column?"),
        ("alter table products add another int", "column products.another"),
        ("create function another() returns int language sql return 1", "function another"),
        ("comment on role rakuten_reader is null", "role rakuten_reader"),
        ("comment on table labels is 'labels'", "relation labels"),
    ],
)
def test_an_object_without_a_description_is_found(as_superuser, change, found):
    with as_superuser() as connection:
        connection.execute(change)
        assert found in without_sentence(connection)
        connection.rollback()


def test_an_upgrade_describes_the_objects_of_an_older_database(database, as_superuser):
    with as_superuser() as connection:
        connection.execute("comment on table products is null")
        connection.execute("comment on column pipeline_status.f1_score is null")
        connection.execute("comment on function products_diff is null")
        connection.execute("comment on table alembic_version is 'the scripts of an older version'")
    database.upgrade()
    with as_superuser() as connection:
        assert without_sentence(connection) == []


def test_an_owner_without_rights_over_roles_can_still_upgrade(database, as_superuser):
    script = dict(schema_scripts())[ROLES_SCRIPT].replace("Reads everything", "May read everything")
    with as_superuser() as connection:
        connection.execute(f"set role {Role.READER}")
        connection.execute(script.encode())
        connection.execute("reset role")
        assert "Reads" in descriptions(connection)[f"role {Role.READER}"]


def test_docker_compose_describes_the_roles_in_the_same_words():
    pairs = re.findall(r"\('(rakuten_\w+)', '(.+)'\)", dict(schema_scripts())[ROLES_SCRIPT])
    initdb = (ROOT / "db/initdb/010_roles_and_databases.sql").read_text(encoding="utf-8")
    assert {name for name, _ in pairs} == set(Role)
    assert dict(re.findall(r"^comment on role (rakuten_\w+) is '(.+)';", initdb, re.MULTILINE)) == dict(pairs)


# ---- class names


def test_the_database_has_the_class_names_of_the_code(reader):
    found = dict(reader.execute("select prdtypecode, name from categories").fetchall())
    assert found == {code: category.name for code, category in CATEGORIES.items()}


def test_the_script_of_the_class_names_is_the_one_that_is_made_from_the_code():
    written = categories_script.PATH.read_text(encoding="utf-8")
    assert written == categories_script.as_sql(), "run: make schema"


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
def test_nobody_can_rename_a_class(as_role, role):
    with as_role(role) as connection, pytest.raises(psycopg.Error):
        connection.execute("update categories set name = 'x'")


def test_a_training_product_shows_the_name_of_its_class(reader, load_weeks):
    load_weeks(1)
    rows = reader.execute("select distinct prdtypecode, category from training_products").fetchall()
    assert len(rows) > 1
    assert dict(rows) == {code: CATEGORIES[code].name for code, _ in rows}


def test_a_class_without_a_name_is_shown_as_unknown(reader, load_weeks, as_superuser):
    load_weeks(1)
    with as_superuser() as connection:
        connection.execute("update labels set prdtypecode = 7")
    assert reader.execute("select distinct category from training_products").fetchall() == [("unknown",)]
