"""Each role may do its own step and no more: whatever else it tries is refused, and succeeds where the protection is gone."""

import json

import pytest
from attacks import STRANGER, Attack, content

from db.database import Role

STEPS = (Role.LOADER, Role.SNAPSHOT, Role.TRAINING, Role.SERVER, Role.READER)
STAGE_OF = {Role.SNAPSHOT: "snapshot", Role.TRAINING: "training"}
NOBODY_IS_ASKED = (
    "create or replace function internal.require_role(step text) returns void language plpgsql as 'begin end'"
)

# ---- tables

THE_LOADERS = {
    (table, operation) for table in ("products", "labels") for operation in ("insert", "update", "delete")
} | {("confirmed_labels", "insert")}
NEW_ROWS = {
    "products": "(productid) values (66)",
    "labels": "(productid, prdtypecode) values (66, 1)",
    "products_history": "(product_id, productid, operation_type, operation_date, split, created_at)"
    " values (66, 66, 'INSERT', now(), 'train', now())",
    "labels_history": "(label_id, productid, prdtypecode, operation_type, operation_date)"
    " values (66, 66, 1, 'INSERT', now())",
    "data_loads": "(batch_name, percentage, status) values ('week_66', 66, 'completed')",
    "confirmed_labels": "(productid, prdtypecode) values (66, 1)",
    "champion_moves": "(move_sha256, number, kind, to_version, moved_at, moved_by, reason)"
    " values ('forged', 1, 'rollback', 66, now(), 'somebody', 'forged')",
    "verifications": "(verified_by, checks, problems) values ('somebody', 7, 0)",
    "alembic_version": "values ('forged')",
}
NEW_VALUES = {
    "products": "designation = 'forged'",
    "labels": "prdtypecode = 1",
    "products_history": "designation = 'forged'",
    "labels_history": "prdtypecode = 1",
    "data_loads": """metadata = metadata || '{"forged": true}'""",
    "confirmed_labels": "prdtypecode = 2",
    "champion_moves": "to_version = 66",
    "verifications": "problems = 0",
    "alembic_version": "version_num = 'forged'",
}
APPEND_ONLY = ("products_history", "labels_history", "data_loads")


def writes(table: str) -> dict[str, str]:
    return {
        "insert": f"insert into {table} {NEW_ROWS[table]}",
        "update": f"update {table} set {NEW_VALUES[table]}",
        "delete": f"delete from {table}",
        "truncate": f"truncate {table}",
    }


TABLE_ATTACKS = [
    Attack(
        name=f"{operation} {table}",
        who=role,
        statements=(statement,),
        unprotect=(
            f"grant select, insert, update, delete, truncate on {table} to {role}",
            *([f"drop trigger _000_append_only on {table}"] if table in APPEND_ONLY else []),
        ),
        message="permission denied",
        evidence=content(table),
    )
    for table in NEW_ROWS
    for operation, statement in writes(table).items()
    for role in STEPS
    if role is not Role.LOADER or (table, operation) not in THE_LOADERS
]

NOT_FOR_TRAINING = (
    "products",
    "labels",
    "products_history",
    "labels_history",
    "training_products",
    "class_distribution",
    "storage",
    "storage_growth",
    "internal.wal_bytes()",
    "drift",
    "products_as_of_batch(1)",
    "products_as_of(now())",
)
READ_ATTACKS = [
    Attack(
        name=f"read {relation}",
        who=role,
        statements=(f"select * from {relation}",),
        unprotect=(
            f"grant select on all tables in schema public to {role}",
            f"grant execute on all functions in schema public, internal to {role}",
        ),
        message="permission denied",
    )
    for role, relations in (
        (Role.TRAINING, NOT_FOR_TRAINING),
        (Role.SERVER, (*NOT_FOR_TRAINING, "data_loads", "batches", "stage_ledger", "champion_moves")),
    )
    for relation in relations
]

# ---- steps: functions of the owner's, each for one role. Batches are those of the seed, see conftest.py

LOADER_CALLS = {
    "claim_batch": "claim_batch('week_11', 66, '{}')",
    "begin_batch": "begin_batch(11)",
    "record_load": """record_load(11, '{"forged": true}')""",
    "fail_batch": "fail_batch(11, 'forged')",
    "complete_batch": "complete_batch(11)",
}
LEAVE_NO_TRACE = ("begin_batch", "hold_stage")


def stage_calls(stage: str) -> dict[str, str]:
    running, failed, waiting, finished = {"snapshot": (1, 3, 5, 2), "training": (2, 4, 6, 7)}[stage]
    return {
        "claim_stage": f"claim_stage({waiting}, '{stage}', 'w', 'start', '0')",
        "claim_next": f"claim_next('{stage}', 'w', 'start', '0', '{{}}')",
        "hold_stage": f"hold_stage({running}, '{stage}', 1)",
        "finish_stage": f"finish_stage({running}, '{stage}', 1, '{{}}')",
        "fail_stage": f"fail_stage({running}, '{stage}', 1, 'forged', null)",
        "postpone_stage": f"postpone_stage({running}, '{stage}', 1, 'forged', '1 s', '1 s')",
        "release_stage": f"release_stage({running}, '{stage}', 1)",
        "retry_stage": f"retry_stage({failed}, '{stage}')",
        "reopen_stage": f"reopen_stage({finished}, '{stage}', 'r', 'forged')",
    }


CALLS = {
    Role.LOADER: LOADER_CALLS,
    Role.SNAPSHOT: stage_calls("snapshot"),
    Role.TRAINING: stage_calls("training"),
}

STEP_ATTACKS = [
    Attack(
        name=f"{name} of {whose.removeprefix('rakuten_')}",
        who=role,
        statements=(f"select {call}",),
        unprotect=(f"grant execute on all functions in schema public, internal to {role}", NOBODY_IS_ASKED),
        # both stages share their functions, which ask whose stage it is
        message="is not a member of the role"
        if {role, whose} == set(STAGE_OF)
        else "permission denied for function",
        evidence=None if name in LEAVE_NO_TRACE else content("data_loads"),
    )
    for whose, calls in CALLS.items()
    for name, call in calls.items()
    for role in STEPS
    if role is not whose
]

FORGED_MOVE = {
    "sha256": "forged",
    "number": 1,
    "kind": "rollback",
    "to_version": 66,
    "at": "2026-01-01",
    "by": "a",
    "reason": "b",
}
MOVE_ATTACKS = [
    Attack(
        name="record_champion_moves",
        who=role,
        statements=(f"select record_champion_moves('{json.dumps([FORGED_MOVE])}')",),
        unprotect=(f"grant execute on all functions in schema public, internal to {role}",),
        message="permission denied for function",
        evidence=content("champion_moves"),
    )
    for role in STEPS
    if role is not Role.TRAINING
]

VERIFICATION_ATTACKS = [
    Attack(
        name="record_verification",
        who=role,
        statements=("select record_verification(7, 0)",),
        unprotect=(f"grant execute on all functions in schema public, internal to {role}",),
        message="permission denied for function",
        evidence=content("verifications"),
    )
    for role in STEPS
    if role is not Role.READER
]

METRICS_ATTACKS = [
    Attack(
        name=f"read {function}",
        who=role,
        statements=(f"select * from {function}",),
        unprotect=(f"grant execute on all functions in schema public, internal to {role}",),
        message="permission denied for function",
    )
    for role in (Role.LOADER, Role.SERVER)
    for function in ("pipeline_metrics(100)", "storage_metrics()")
]

# what the steps are made of: nobody calls it directly, not even for a step of its own
INTERNAL_ATTACKS = [
    Attack(
        name=f"call {call.split('(', maxsplit=1)[0]}",
        who=role,
        statements=(f"select {call}",),
        unprotect=(f"grant execute on all functions in schema public, internal to {role}", NOBODY_IS_ASKED),
        message="permission denied for function",
        evidence=evidence,
    )
    for role in STEPS
    for call, evidence in (
        ("""record_stage(1, 'snapshot', 1, '{"state": "finished"}')""", content("data_loads")),
        ("""record_stage(2, 'training', 1, '{"state": "finished"}')""", content("data_loads")),
        ("notify_stage(1, 'snapshot')", None),
        ("notify_audited(1, 'products', 'INSERT', 1)", None),
    )
]

# ---- what only an owner does


def here(grant: str) -> str:
    """A grant on the database that is attacked."""
    return f"do $$ begin execute format('{grant}', current_database()); end $$"


OWNER_ATTACKS = [
    attack
    for role in STEPS
    for attack in (
        Attack("create a table", role, ("create table public.x ()",), (f"grant create on schema public to {role}",)),
        Attack(
            "create a function",
            role,
            ("create function public.x() returns int language sql return 1",),
            (f"grant create on schema public to {role}",),
        ),
        Attack("create a schema", role, ("create schema x",), (here(f"grant create on database %I to {role}"),)),
        Attack("drop the history", role, ("drop table products_history cascade",), (f"alter table products_history owner to {role}",)),
        Attack(
            "switch the audit off",
            role,
            ("alter table products disable trigger _100_audit_update",),
            (f"alter table products owner to {role}",),
        ),
        Attack(
            "open the history for changes",
            role,
            ("drop trigger _000_append_only on products_history",),
            (f"alter table products_history owner to {role}",),
        ),
        Attack(
            "unfix a search_path",
            role,
            ("alter function current_batch_id() reset search_path",),
            (f"alter function current_batch_id() owner to {role}",),
        ),
        Attack(
            "become the owner",
            role,
            (f"set role {Role.OWNER}",),
            (f"alter role {role} superuser",),  # the owner is a member of the roles it made, so not the other way round
            restore=(f"alter role {role} nosuperuser",),
        ),
        Attack(
            "pose as a replica",
            role,
            ("set session_replication_role = replica",),
            (f"grant set on parameter session_replication_role to {role}",),
            restore=(f"revoke set on parameter session_replication_role from {role}",),
        ),
    )
]  # fmt: skip

TEMPORARY_ATTACKS = [
    Attack("create a temporary table", role, ("create temporary table x ()",), (here(f"grant temporary on database %I to {role}"),))
    for role in STEPS
    if role is not Role.LOADER
]  # fmt: skip

STRANGER_ATTACKS = [
    Attack(
        name=f"{statement.split('(', maxsplit=1)[0]}",
        who=STRANGER,
        statements=(statement,),
        unprotect=(
            f"grant usage on schema public, internal to {STRANGER}",
            f"grant all on all tables in schema public to {STRANGER}",
            f"grant execute on all functions in schema public, internal to {STRANGER}",
            NOBODY_IS_ASKED,
            here(f"grant temporary on database %I to {STRANGER}"),
        ),
        message="permission denied",
    )
    for statement in (
        "select * from public.products",
        "select * from public.pipeline_status",
        "select * from public.pipeline_doctor()",
        "insert into public.products (productid) values (66)",
        "select internal.complete_batch(11)",
        "select internal.claim_stage(5, 'snapshot', 'w', 'start', '0')",
        "create temporary table x ()",
    )
]

ATTACKS = [
    *TABLE_ATTACKS,
    *READ_ATTACKS,
    *STEP_ATTACKS,
    *MOVE_ATTACKS,
    *VERIFICATION_ATTACKS,
    *METRICS_ATTACKS,
    *INTERNAL_ATTACKS,
    *OWNER_ATTACKS,
    *TEMPORARY_ATTACKS,
    *STRANGER_ATTACKS,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_role_is_refused_what_is_not_its_step(guarded, attack):
    before = guarded.evidence(attack)
    with pytest.raises(attack.error, match=attack.message):
        guarded.attempt(attack)
    assert guarded.evidence(attack) == before


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_it_would_succeed_without_the_protection(target, attack):
    before = target.evidence(attack)
    with target.without_protection(attack):
        target.attempt(attack)
    assert attack.evidence is None or target.evidence(attack) != before


def test_every_step_that_a_role_may_take_is_tried_by_the_others(guarded):
    """A function that is new, and changes something, belongs into CALLS; those of MOVE_ATTACKS and VERIFICATION_ATTACKS are no stage's."""
    granted = {
        name
        for (name,) in guarded.rows(
            "select distinct proname from pg_proc, aclexplode(proacl) as entry"
            " where pronamespace = 'internal'::regnamespace and provolatile = 'v' and grantee <> proowner"
        )
    }
    assert granted == {name for calls in CALLS.values() for name in calls} | {
        "record_champion_moves",
        "record_verification",
    }


def test_every_table_is_tried(guarded):
    tables = {name for (name,) in guarded.rows("select tablename from pg_tables where schemaname = 'public'")}
    assert tables == set(NEW_ROWS)
