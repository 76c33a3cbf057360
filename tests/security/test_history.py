"""What is recorded can be trusted: not rewritten, not gone around, not signed falsely, and recorded only when it is due."""

from contextlib import suppress

import psycopg
import pytest
from attacks import SUPERUSER, Attack, content, without
from psycopg import errors

from db.database import Role

HISTORIES = ("products_history", "labels_history")
REPLICA = "set session_replication_role = replica"  # switches ordinary triggers off
INSERT = "insert into products (productid) values (66)"

EVIL = """
    create function pg_temp.evil(value pg_catalog.text) returns boolean language plpgsql
    as $$ begin delete from public.products_history; return true; end $$
"""

# Somebody went around the triggers when products and their history differ.
UNRECORDED = """(
    select count(*) from (
        select id, productid, designation from products
        except
        select id, productid, designation from products_as_of('infinity')
    ) as new_or_changed
) + (
    select count(*) from (
        select id from products_as_of('infinity') except select id from products
    ) as vanished
)"""


def entries(condition: str) -> str:
    return f"(select count(*) from products_history where productid = 66 and {condition})"


def forgery(name: str, value: str, evidence: str, unprotect: str) -> Attack:
    """The loader names a batch of its choice for what it writes."""
    return Attack(
        name=name,
        who=Role.LOADER,
        statements=(f"select set_config('rakuten.batch_id', '{value}', true)", INSERT),
        unprotect=(unprotect,),
        error=errors.InvalidParameterValue,
        message="names no running batch",
        evidence=evidence,
    )


def current_batch_id(body: str) -> str:
    return f"""
        create or replace function internal.current_batch_id() returns bigint
        language plpgsql security definer set search_path = pg_catalog, pg_temp
        as $$ declare setting text := nullif(current_setting('rakuten.batch_id', true), ''); batch_id bigint;
        begin {body} return batch_id; end $$
    """


BELIEVED = current_batch_id("batch_id := setting;")
PASTED = current_batch_id(
    "execute 'select id from public.data_loads where id = ' || coalesce(setting, '0') into batch_id;"
)

REWRITTEN = [
    Attack(
        name=f"{statement.format('...')} {table}{' as a replica' if prelude else ''}",
        who=SUPERUSER,
        statements=(*prelude, statement.format(table)),
        unprotect=(
            # in a replica an ordinary trigger is as good as none
            f"alter table {table} enable trigger _000_append_only"
            if prelude
            else f"drop trigger _000_append_only on {table}",
        ),
        message="append-only",
        evidence=content(table),
    )
    for table in HISTORIES
    for statement in ("update {} set productid = 66", "delete from {}", "truncate {}")
    for prelude in ((), (REPLICA,))
]

GONE_AROUND = [
    Attack(
        "update as a replica",
        SUPERUSER,
        (REPLICA, "update products set designation = 'forged'"),
        ("alter table products enable trigger _100_audit_update",),
        error=None,
        evidence=UNRECORDED,
    ),
    Attack(
        "truncate",
        Role.OWNER,
        ("truncate products",),
        ("drop trigger _100_audit_truncate on products",),
        error=None,
        evidence=UNRECORDED,
    ),
    Attack(
        "truncate as a replica",
        SUPERUSER,
        (REPLICA, "truncate products"),
        ("alter table products enable trigger _100_audit_truncate",),
        error=None,
        evidence=UNRECORDED,
    ),
    Attack(
        "give a product another id",
        Role.LOADER,
        ("update products set id = default",),
        ("drop trigger _000_keep_id on products",),
        message="must not be changed",
        evidence=UNRECORDED,
    ),
    Attack(
        "give a label another id",
        Role.LOADER,
        ("update labels set id = default",),
        ("drop trigger _000_keep_id on labels",),
        message="must not be changed",
        evidence=content("labels"),
    ),
    Attack(
        "borrow the owner's rights with a temporary type",
        Role.LOADER,
        (
            EVIL,
            "create domain pg_temp.text as pg_catalog.text check (pg_temp.evil(value))",
            "insert into public.labels (productid, prdtypecode) values (66, 10)",
        ),
        # with an empty path, pg_temp is searched first: `text` is then the loader's domain, checked by the owner
        ("alter function current_batch_id() set search_path = ''",),
        error=None,
        evidence=content("products_history"),
    ),
]

SIGNED_FALSELY = [
    Attack(
        "hide behind a role",
        SUPERUSER,
        (f"set role {Role.LOADER}", INSERT),
        ("alter table products_history alter changed_by set default current_user",),
        error=None,
        evidence=entries("changed_by <> 'postgres'"),
    ),
    forgery("a complete batch's id", "1", entries("load_batch_id = 1"), BELIEVED),
    forgery("a failed batch's id", "10", entries("load_batch_id = 10"), BELIEVED),
    forgery("an unknown batch's id", "99", entries("load_batch_id = 99"), BELIEVED),
    forgery(
        "SQL for a batch's id",
        "0; update public.data_loads set percentage = 99 where id = 11; select 1",
        content("data_loads"),
        PASTED,
    ),
]

SEALED = [
    Attack(
        f"change a complete batch: {change}",
        SUPERUSER,
        # another that runs would keep it from running again
        ("select fail_batch(11, 'x')", f"update data_loads set {change} where id = 1"),
        ("drop trigger _200_unchanged on data_loads",),
        error=errors.ObjectNotInPrerequisiteState,
        message="is complete and cannot be changed",
        evidence="(select entry::text from data_loads as entry where id = 1)",
    )
    for change in (
        "total_rows = 0",
        "status = 'failed', completed_at = null",
        "status = 'running', completed_at = null",
        "completed_at = now()",
        "percentage = 1",
        "batch_name = 'week_66'",
        "metadata = '{}'",
        "metadata = jsonb_set(metadata, '{audit,products_history_id}', '0')",
    )
] + [
    Attack(
        "complete a batch with a number of rows of one's own",
        SUPERUSER,
        ("update data_loads set status = 'completed', completed_at = now(), total_rows = 99 where id = 11",),
        ("drop trigger _100_seal_update on data_loads",),
        error=None,
        evidence="(select total_rows = 99 from data_loads where id = 11)",
    ),
    Attack(
        "remove a batch",
        SUPERUSER,
        ("delete from data_loads where id = 1",),
        ("drop trigger _000_append_only on data_loads",),
        message="append-only",
        evidence=content("data_loads"),
    ),
]

# What a forged notification could ask for, too: the tables decide what is due.
NOT_DUE = [
    Attack(
        "build a dataset of a batch that is not complete",
        Role.SNAPSHOT,
        ("select claim_stage(11, 'snapshot', 'w', 'notify', '0')",),
        (without("claim_stage", "status = 'completed'"),),
        error=None,
        evidence=content("data_loads"),
    ),
    Attack(
        "train on a dataset that is not there",
        Role.TRAINING,
        ("select claim_stage(5, 'training', 'w', 'notify', '0')",),
        (without("claim_stage", "metadata #>> '{snapshot,state}' = 'finished'"),),
        error=None,
        evidence=content("data_loads"),
    ),
    Attack(
        "record for an attempt that is not the newest",
        Role.SNAPSHOT,
        ("select finish_stage(1, 'snapshot', 99, '{}')",),
        (without("record_stage", "(metadata #>> array[stage, 'attempt'])::integer = attempt"),),
        error=errors.ObjectNotInPrerequisiteState,
        message="is fenced",
        evidence=content("data_loads"),
    ),
]

ATTACKS = [*REWRITTEN, *GONE_AROUND, *SIGNED_FALSELY, *SEALED, *NOT_DUE]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_on_the_history_does_no_harm(target, attack):
    before = target.evidence(attack)
    if attack.error is None:
        target.attempt(attack)
    else:
        with pytest.raises(attack.error, match=attack.message):
            target.attempt(attack)
    assert target.evidence(attack) == before


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_it_would_do_harm_without_the_protection(target, attack):
    before = target.evidence(attack)
    with target.without_protection(attack):
        target.attempt(attack)
    assert target.evidence(attack) != before


# ---- what everybody reads


def test_a_batch_is_named_after_its_week(target):
    target.run(["select complete_batch(11)"])
    with pytest.raises(psycopg.Error):
        target.attempt(Attack("", Role.LOADER, ("select claim_batch('forged', 66, '{}')",), ()))


def test_no_result_of_a_stage_spoils_the_view_that_everybody_reads(target):
    result = """{"run_id": "r", "total_rows": "forged"}"""
    statement = f"select finish_stage(1, 'snapshot', 1, '{result}')"
    with suppress(psycopg.Error):  # refused is as good
        target.attempt(Attack("", Role.SNAPSHOT, (statement,), ()))
    assert target.rows("select * from pipeline_status") != []
