"""The list of all that can be changed in the database: each change is noticed, and what is said against it helps."""

import re
from collections import Counter, defaultdict
from contextlib import contextmanager

import psycopg
import pytest
import search_path
from expected_schema import PATH, as_text

from db.database import Role
from db.protections import deviations, expected_schema
from rakuten.provenance.verify_database import verify_database

EXPECTED = expected_schema()
STEPS = [role for role in Role if role is not Role.OWNER]
IDLE = "create function idle() returns trigger language plpgsql as 'begin return null; end'"


def names(kind: str) -> list[str]:
    return [name for found, name in EXPECTED if found == kind]


def tables(kind: str = "table") -> list[str]:
    return [name for name in names("table") if EXPECTED["table", name] == kind and name != "alembic_version"]


@pytest.fixture(scope="module")
def superuser(guarded):
    """A connection whose transactions are rolled back."""
    with psycopg.connect(guarded.conninfo(), autocommit=True, options=search_path.OPTION) as connection:
        yield connection


@pytest.fixture
def put_back(superuser):
    """Run statements for a `with` block."""

    @contextmanager
    def run(*statements):
        with superuser.transaction(force_rollback=True):
            for statement in statements:
                superuser.execute(statement)
            yield superuser

    return run


@pytest.fixture
def unnoticed(put_back):
    """Return which of some changes nothing notices; a change is (kind and name, statements).

    The first changes of all names are made together, then the second, and so on.
    """

    def look(changes) -> list[str]:
        rounds = defaultdict(list)
        met = Counter()
        for subject, *statements in changes:
            rounds[met[subject]].append((subject, statements))
            met[subject] += 1
        missed = []
        for made in rounds.values():
            statements = dict.fromkeys(statement for _, several in made for statement in several)
            with put_back(*statements) as connection:
                noticed = {found.subject for found in deviations(connection)}
            missed += [(subject, several) for subject, several in made if subject not in noticed]
        return missed

    return look


def test_the_list_is_that_of_a_new_database(database):
    assert as_text(database) == PATH.read_text(encoding="utf-8"), "run: make schema"


def test_nothing_is_noticed_where_nothing_was_changed(superuser):
    assert deviations(superuser) == []


def triggers():
    for name in names("trigger"):
        table, trigger = name.split(".")
        replaced = f"""do $do$ begin
            execute (
                select regexp_replace(
                    replace(pg_get_triggerdef(oid), 'CREATE', 'CREATE OR REPLACE'), 'FUNCTION .*', 'FUNCTION idle()'
                )
                from pg_trigger where tgrelid = '{table}'::regclass and tgname = '{trigger}'
            );
            execute 'alter table {table} enable always trigger {trigger}';
        end $do$"""
        for statements in (
            [f"drop trigger if exists {trigger} on {table}"],
            [f"alter table {table} disable trigger {trigger}"],
            [f"alter table {table} enable trigger {trigger}"],
            [f"alter table {table} enable replica trigger {trigger}"],
            [f"alter trigger {trigger} on {table} rename to other{trigger}"],
            [IDLE, replaced],
        ):
            yield f"trigger {name}", *statements


def functions():
    for name in names("function"):
        signature = name.replace(" timestamp with time zone", " timestamptz")
        types = (
            "("
            + ", ".join(
                part.split(" ", 1)[1] for part in re.findall(r"[\w]+ [\w ]+", signature.partition("(")[2])
            )
            + ")"
        )
        function = name.partition("(")[0] + types
        source = f"""do $do$ begin
            execute replace(
                pg_get_functiondef('{function}'::regprocedure), 'AS $function$', 'AS $function$ /* changed */ '
            );
        end $do$"""
        is_query = name.startswith(
            ("internal.stage_lock_class", "internal.ready_at", "internal.seconds_between")
        )
        yield f"function {name}", f"alter function {function} set search_path = ''"
        yield f"function {name}", f"alter function {function} set work_mem = '1MB'"
        yield f"function {name}", f"alter function {function} strict"
        yield f"function {name}", f"drop function if exists {function} cascade"
        yield f"function {name}", f"alter function {function} volatile" if is_query else source
        yield (
            f"owner function {name}",
            f"grant create on schema public, internal to {Role.READER}",
            f"alter function {function} owner to {Role.READER}",
        )
        yield f"right function {name}: public", f"grant execute on function {function} to public"


def relations():
    for view in tables("view"):
        replaced = f"""do $do$ begin execute
            'create or replace view {view} as select * from ('
            || rtrim(pg_get_viewdef('{view}'::regclass), ';') || ') as before limit 0';
        end $do$"""
        yield f"view {view}", replaced
        yield f"view {view}", f"drop view if exists {view} cascade"
        yield f"table {view}", f"alter view {view} set (security_invoker = true)"
    for table in tables():
        yield f"table {table}", f"alter table {table} set unlogged"
        yield f"table {table}", f"alter table {table} enable row level security"
        yield f"table {table}", f"create table heir_of_{table} () inherits ({table})"
        yield f"rule {table}.quiet", f"create rule quiet as on insert to {table} do instead nothing"
        yield f"policy {table}.none_", f"create policy none_ on {table} using (false)"
        yield (
            f"trigger {table}.more",
            IDLE,
            f"create trigger more before insert on {table} execute function idle()",
        )
        yield f"table {table}", f"alter table {table} rename to other_{table}"
        yield f"column {table}.more", f"alter table {table} add column more text"
        yield f"constraint {table}.more", f"alter table {table} add constraint more check (true)"
        yield (
            f"owner table {table}",
            f"grant create on schema public, internal to {Role.READER}",
            f"alter table {table} owner to {Role.READER}",
        )


def primary_key(table: str) -> str:
    """The definition of the table's primary key: its columns cannot become nullable."""
    definitions = (
        EXPECTED["constraint", name] for name in names("constraint") if name.startswith(f"{table}.")
    )
    return next(definition for definition in definitions if definition.startswith("PRIMARY KEY"))


def parts():
    for name in names("column"):
        table, column = name.split(".")
        definition = EXPECTED["column", name]
        yield f"column {name}", f"alter table {table} rename column {column} to other_{column}"
        if "identity" in definition:
            yield f"column {name}", f"alter table {table} alter column {column} set generated by default"
        elif "default" in definition:
            yield f"column {name}", f"alter table {table} alter column {column} drop default"
        elif "not null" in definition and column not in primary_key(table):
            yield f"column {name}", f"alter table {table} alter column {column} drop not null"
    for name in names("constraint"):
        table, constraint = name.split(".")
        yield f"constraint {name}", f"alter table {table} drop constraint {constraint}"
    for name in names("index"):
        table, index = name.split(".")
        if ("constraint", name) not in EXPECTED:
            yield f"index {name}", f"drop index {index}"
    for sequence in names("sequence"):
        yield f"sequence {sequence}", f"alter sequence {sequence} increment by -1 minvalue -10"
        yield f"sequence {sequence}", f"alter sequence {sequence} cycle"


def rights():
    for name in names("right"):
        target, role = name.rsplit(": ", 1)
        kind, _, subject = target.partition(" ")
        if kind == "function":
            subject = subject.partition("(")[0]
        elif kind == "database":
            subject = "current"
        yield f"right {name}", revoke(kind, subject, role)
    for table in [*tables(), *tables("view"), *tables("sequence")]:
        yield f"right table {table}: public", f"grant select on {table} to public"
        for role in STEPS:
            yield f"right table {table}: {role}", f"grant update on {table} to {role} with grant option"
        if EXPECTED["table", table] == "table":
            column = next(name for name in names("column") if name.startswith(f"{table}.")).split(".")[1]
            yield (
                f"right column {table}.{column}: {Role.TRAINING}",
                f"grant update ({column}) on {table} to {Role.TRAINING}",
            )
    for role in STEPS:
        yield f"right schema public: {role}", f"grant create on schema public to {role}"
        yield f"right schema internal: {role}", f"grant create on schema internal to {role}"
        for power in ("superuser", "createrole", "createdb", "replication", "bypassrls"):
            yield f"role {role}", f"alter role {role} {power}"
        for other in ("pg_read_all_data", "pg_write_all_data"):
            yield f"membership {role} in {other}", f"grant {other} to {role}"
    yield f"membership someone in {Role.OWNER}", "create role someone", f"grant {Role.OWNER} to someone"
    yield (
        "right database: public",
        "do $$ begin execute format('grant temporary on database %I to public', current_database()); end $$",
    )


def revoke(kind: str, subject: str, role: str) -> str:
    if kind == "database":
        return (
            f"do $$ begin execute format('revoke all on database %I from {role}', current_database()); end $$"
        )
    return f"revoke all on {kind} {subject} from {role}"


def identities():
    for sequence in names("sequence"):
        table = (
            re.sub("(_history)?(_history)?_id_seq$", r"\1", sequence)
            if "history" in sequence
            else sequence[:-7]
        )
        yield f"identity {table}", f"alter sequence {sequence} restart"


@pytest.mark.parametrize(
    "changes",
    [triggers, functions, relations, parts, rights, identities],
    ids=lambda changes: changes.__name__,
)
def test_each_change_of_the_schema_is_noticed(unnoticed, changes):
    assert unnoticed(changes()) == []


# ---- what is said against it


def test_an_upgrade_puts_the_protections_back(target):
    possible = defaultdict(list)
    for changes in (triggers, functions, rights, identities):
        for subject, *statements in changes():
            if not subject.startswith(("owner", "role", "membership")) and not re.search(
                "drop function|rename", statements[-1]
            ):
                possible[subject].append(statements)
    target.run([IDLE])
    for number, several in enumerate(possible.values()):
        target.run(statement for statement in several[number % len(several)] if statement != IDLE)
    target.run(["drop function audit_truncate cascade", "drop view training_products"])
    found = {item.subject for item in target.deviations()}
    assert not [
        name
        for name in possible.keys() - found
        if "audit_truncate()" not in name and "training_products" not in name
    ]
    target.upgrade()
    assert target.deviations() == []


def test_an_upgrade_puts_the_internal_functions_back(target):
    target.run(["drop schema internal cascade"])
    missing = {found.subject for found in target.deviations()}
    assert {"function internal.seal_batch()", "trigger products._100_audit_update"} <= missing
    target.upgrade()
    assert target.deviations() == []


def test_a_function_that_hides_an_internal_one_is_noticed(target):
    target.run(["create function public.begin_batch(batch_id bigint) returns void language sql as ''"])
    [found] = [found for found in target.deviations() if found.kind == "function"]
    assert (found.subject, found.remedy) == (
        "function begin_batch(batch_id bigint)",
        "as the owner, in psql: drop function begin_batch(batch_id bigint)",
    )


@pytest.mark.parametrize(
    "statements",
    [
        [f"grant pg_read_all_data to {Role.READER}"],
        ["create role someone", f"grant {Role.OWNER} to someone"],
        [f"alter role {Role.SNAPSHOT} bypassrls createdb"],
        [f"alter table products_history owner to {Role.READER}"],
        [f"alter function begin_batch owner to {Role.LOADER}"],
        ["create rule quiet as on insert to labels do instead nothing"],
        [IDLE, "create trigger more before insert on products execute function idle()"],
        ["create policy none_ on products using (false)"],
        [
            f"set role {Role.OWNER}",
            "create function internal.require_role(step varchar) returns void language sql as ''",
            "reset role",
        ],
        ["alter table products drop constraint products_text_length"],
        ["alter table products add constraint more check (true)"],
        ["drop index data_loads_one_running"],
    ],
    ids=lambda statements: statements[-1],
)
def test_what_an_upgrade_cannot_put_back_has_a_statement_that_does(target, statements):
    target.run(statements)
    try:
        remedies = {found.remedy for found in target.deviations()} - {"rakuten db upgrade"}
        assert len(remedies) == 1
        target.run(remedies.pop().partition("in psql: ")[2].split("; "))
        target.upgrade()
        assert target.deviations() == []
    finally:
        target.run([f"alter role {Role.SNAPSHOT} nobypassrls nocreatedb"])
        target.run([f"revoke pg_read_all_data from {Role.READER}", "drop role if exists someone"])


def test_a_schema_of_another_version_is_one_finding(target):
    target.run(["comment on table alembic_version is 'scripts of another version'"])
    [found] = target.deviations()
    assert (found.problem, found.remedy) == (
        "was created by another version of rakuten",
        "rakuten db upgrade",
    )
    target.upgrade()
    assert target.deviations() == []


def test_what_others_add_to_the_schema_is_theirs(target):
    target.run(
        [
            "create table of_another (id int primary key)",
            "create view of_another_view as select * from batches",
            "create function of_another_function() returns int language sql as 'select 1'",
            "create index faster on products (imageid)",
        ]
    )
    assert target.deviations() == []


# ---- the rows


SPECIAL = {
    "data_loads.batch_name": "'week_66'",
    "data_loads.status": "'failed', completed_at = null",
    "products.split": "'holdout'",
    "products_history.split": "'holdout'",
    "products_history.operation_type": "'DELETE'",
    "labels_history.operation_type": "'DELETE'",
}


def other_value(name: str) -> str:
    column, definition = name.split(".")[1], EXPECTED["column", name]
    if name in SPECIAL:
        return SPECIAL[name]
    if definition.startswith("timestamp"):
        return f"{column} + interval '1 second'"
    if definition.startswith("numeric"):
        return f"{column} + 1"
    return (
        f"coalesce({column}, '') || 'x'" if definition.startswith("text") else f"coalesce({column}, 0) + 100"
    )


def recorded_tables() -> list[str]:
    """All but two that no dataset, model or decision reads, and a copy of MLflow's history (SECURITY.md says so)."""
    return [
        table for table in tables() if table not in {"confirmed_labels", "champion_moves", "verifications"}
    ]


def rows():
    for name in names("column"):
        table, column = name.split(".")
        if table in recorded_tables() and name != "data_loads.metadata":
            value = "default" if "identity" in EXPECTED["column", name] else other_value(name)
            yield table, name, f"{column} = {value}"
    paths = [
        "source",
        "load",
        *(f"audit,{key}" for key in ("number", "products_history_id", "labels_history_id")),
    ]
    paths += [f"audit,{key}" for key in ("products_digest", "labels_digest", "seal")]
    for stage in ("snapshot", "training"):
        keys = (
            "state",
            "attempt",
            "worker",
            "wake",
            "woken_at",
            "claimed_at",
            "finished_at",
            "error",
            "result",
        )
        paths += [f"{stage},{key}" for key in (*keys, "outage_since", "sha256")]
    for path in paths:
        yield "data_loads", path, f"metadata = jsonb_set(metadata, '{{{path}}}', '66')"
    yield "data_loads", "result taken away", "metadata = metadata #- '{training,result}'"


@pytest.mark.parametrize("of", [1, 7, 9], ids=["the first batch", "one with a model", "the last"])
def test_each_change_of_a_row_is_noticed(put_back, of):
    missed = []
    for table, name, change in rows():
        is_batch = table == "data_loads"
        if (not is_batch and of != 1) or (
            ("snapshot" in name or "training" in name or "result" in name) and of != 7
        ):
            continue
        condition = f"id = {of}" if is_batch else "productid = 5"
        with put_back(
            f"alter table {table} disable trigger all",
            f"update {table} set {change} where {condition}",
        ) as connection:
            found = [check.subject for check in verify_database(connection) if check.problem is not None]
            if not any(
                subject in {"seal", "products", "labels"} or "record of" in subject for subject in found
            ):
                missed.append(name)
    assert missed == []


def test_rows_that_were_added_or_taken_away_are_noticed(put_back):
    for table in recorded_tables():
        for statement in (
            f"delete from {table} where ctid = (select ctid from {table} order by 1 limit 1)",
            f"truncate {table}",
        ):
            with put_back(f"alter table {table} disable trigger all", statement) as connection:
                found = {check.subject for check in verify_database(connection) if check.problem is not None}
            assert found & {"seal", "products", "labels"} or (table, statement[:8]) == (
                "data_loads",
                "truncate",
            )
