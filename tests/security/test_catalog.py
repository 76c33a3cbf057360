"""Rules that hold for every object of the schema, also for those that are yet to come: each finds who breaks it."""

from dataclasses import dataclass

import pytest

from db.database import Role

ROLES = ", ".join(f"'{role}'" for role in Role if role is not Role.OWNER)


@dataclass(frozen=True)
class Rule:
    """A query for whoever breaks a rule, and statements that break it. `restore` mends what belongs to the cluster."""

    name: str
    offenders: str
    broken_by: str
    restore: str = "select"

    def __str__(self) -> str:
        return self.name


RULES = [
    Rule(
        "no function is open to everybody",
        """
        select proname from pg_proc
        where pronamespace in ('public'::regnamespace, 'internal'::regnamespace)
            and exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0)
        """,
        "grant execute on function begin_batch(bigint) to public",
    ),
    Rule(
        "no table is open to everybody",
        """
        select relname from pg_class
        where relnamespace = 'public'::regnamespace
            and exists (select from aclexplode(coalesce(relacl, acldefault('r', relowner))) where grantee = 0)
        """,
        "grant select on products to public",
    ),
    Rule(
        "the schema is open to nobody without a role",
        """
        select nspname from pg_namespace
        where nspname in ('public', 'internal')
            and exists (select from aclexplode(coalesce(nspacl, acldefault('n', nspowner))) where grantee = 0)
        """,
        "grant usage on schema public to public",
    ),
    Rule(
        "no right may be passed on",
        """
        select relname from pg_class, aclexplode(relacl) as entry
        where relnamespace = 'public'::regnamespace and is_grantable and grantee <> relowner
        """,
        f"grant insert on products to {Role.LOADER} with grant option",
    ),
    Rule(
        "every function with the owner's rights fixes its search_path",
        """
        select proname from pg_proc
        where pronamespace in ('public'::regnamespace, 'internal'::regnamespace) and prosecdef
            and not coalesce(proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']
        """,
        "alter function begin_batch(bigint) reset search_path",
    ),
    Rule(
        "every trigger fires always",
        "select tgname from pg_trigger where not tgisinternal and tgenabled <> 'A'",
        "alter table products enable trigger _100_audit_update",
    ),
    Rule(
        "no role has a power over the cluster",
        f"""
        select rolname from pg_roles
        where rolname in ({ROLES})
            and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)
        """,
        f"alter role {Role.READER} createdb",
        f"alter role {Role.READER} nocreatedb",
    ),
    Rule(
        "no role reads or writes the server's files",
        f"""
        select rolname, power from pg_roles,
            unnest(array[
                'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', 'pg_read_all_data',
                'pg_write_all_data', 'pg_signal_backend'
            ]) as power
        where rolname in ({ROLES}) and pg_has_role(rolname, power, 'member')
        """,
        f"grant pg_read_all_data to {Role.TRAINING}",
        f"revoke pg_read_all_data from {Role.TRAINING}",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_nobody_breaks_the_rule(target, rule):
    assert target.rows(rule.offenders) == []


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_whoever_broke_it_would_be_found(target, rule):
    target.run([rule.broken_by])
    try:
        assert len(target.rows(rule.offenders)) == 1
    finally:
        target.run([rule.restore])
