"""Compare the schema of a database with the schema that this version of the code creates.

The file db/sql/expected_schema.tsv lists everything that must be there, such as each trigger, function and right. The file is
part of the code, so the comparison does not trust anything that the database says about itself. `make schema` writes the file.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import psycopg
from psycopg.sql import SQL, Literal

from db import sql

Definitions = dict[tuple[str, str], str]

_DIGEST_ONLY: Final = {"function", "view"}  # their definitions are long
_UPGRADE: Final = "rakuten db upgrade"
_RESTORE: Final = "restore a backup, or change the {0} in psql as the owner until it is as it must be"
# the remedies for what was added, and for what was changed or is missing, where it is not `rakuten db upgrade`
_ADDED: Final = {
    "column": "as the owner, in psql: alter table {table} drop column {part}",
    "constraint": "as the owner, in psql: alter table {table} drop constraint {part}",
    "function": "as the owner, in psql: drop function {name}",
    "membership": "as a superuser, in psql: revoke {group} from {member}",
    "owner": "as a superuser, in psql: alter {name} owner to {owner}",
    "policy": "as the owner, in psql: drop policy {part} on {table}",
    "rule": "as the owner, in psql: drop rule {part} on {table}",
    "trigger": "as the owner, in psql: drop trigger {part} on {table}",
}
_CHANGED: Final = {
    "column": _RESTORE.format("column"),
    "constraint": (
        "as the owner, in psql: alter table {table} drop constraint if exists {part}, add constraint {part} {expected}"
    ),
    "index": "as the owner, in psql: drop index if exists {part}; {expected}",
    "role": "as a superuser, in psql: alter role {name} nosuperuser nocreaterole nocreatedb noreplication nobypassrls",
    "sequence": _RESTORE.format("sequence"),
    "table": _RESTORE.format("table"),
}
_IDENTITIES: Final = ("view", "identities")


@dataclass(frozen=True)
class Deviation:
    """Something in the database that differs from what this version of the code creates, for example a missing trigger.

    `problem` says what is wrong with it, and `remedy` how to correct it.
    """

    kind: str
    name: str
    problem: str
    remedy: str

    @property
    def subject(self) -> str:
        return f"{self.kind} {self.name}"


def deviations(connection: psycopg.Connection[Any]) -> list[Deviation]:
    """Return everything in the schema that differs from what this version of the code creates. Any role may call this.

    The objects that other people have added to the schema `public` are ignored, unless they change how ours work. If the
    scripts of another version of the code ran last, return only this.
    """
    if not is_of_this_version(connection):
        return [
            Deviation("schema", "public", "was created by another version of rakuten", "rakuten db upgrade")
        ]
    expected = expected_schema()
    found = read_schema(connection, _names(expected))
    # an index that somebody has added makes queries faster and changes no result
    unexpected = {key for key in found.keys() - expected.keys() if key[0] != "index"}
    changed = {key for key in expected.keys() & found.keys() if expected[key] != found[key]}
    result = [_deviation(*key, None, expected[key]) for key in sorted(expected.keys() - found.keys())]
    result += [_deviation(*key, found[key], expected.get(key)) for key in sorted(unexpected | changed)]
    # the view `identities` reads all tables with the rights of its owner
    is_readable = found.get(_IDENTITIES) == expected[_IDENTITIES]
    if is_readable and not any(deviation.kind == "owner" for deviation in result):
        result += _sequences_behind(connection)
    return result


def is_of_this_version(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the migrations and schema scripts that ran last are those of this version of the code."""
    return _recorded_scripts(connection) == _scripts_record()


def record_scripts(connection: psycopg.Connection[Any]) -> None:
    """Record that the migrations and schema scripts of this version ran: write their digest into the comment on the table `alembic_version`."""
    connection.execute(SQL("comment on table alembic_version is {}").format(Literal(_scripts_record())))


def _recorded_scripts(connection: psycopg.Connection[Any]) -> str | None:
    statement = "select obj_description(to_regclass('public.alembic_version'), 'pg_class')"
    [(recorded,)] = connection.execute(statement).fetchall()
    return None if recorded is None else str(recorded)


def _scripts_record() -> str:
    scripts = (text for _name, text in (*sql.migrations(), *sql.schema_scripts()))
    digest = hashlib.sha256("\0".join(scripts).encode()).hexdigest()
    return f"The revision of the tables. The migrations and schema scripts that ran last have the SHA-256 {digest}."


def read_schema(connection: psycopg.Connection[Any], names: list[str] | None = None) -> Definitions:
    """Return the definition of each object of the schema. Of functions and views, return the SHA-256 of the definition."""
    rows = connection.execute(sql.query("schema/state"), {"names": names}).fetchall()
    definitions = {
        (kind, name): " ".join(text.replace("public.", "").replace("internal.", "").split())
        for kind, name, text in rows
    }
    return {
        key: hashlib.sha256(text.encode()).hexdigest() if key[0] in _DIGEST_ONLY else text
        for key, text in definitions.items()
    }


@cache
def expected_schema() -> Definitions:
    """Return the definitions that a new database has (see `read_schema`)."""
    lines = resources.files("db.sql").joinpath("expected_schema.tsv").read_text(encoding="utf-8").splitlines()
    return {(kind, name): text for kind, name, text in (line.split("\t") for line in lines)}


def _names(definitions: Definitions) -> list[str]:
    return [
        name.split("(")[0].removeprefix("internal.")
        for kind, name in definitions
        if kind in {"table", "function"}
    ]


def _deviation(kind: str, name: str, found: str | None, expected: str | None) -> Deviation:
    if found is None:
        problem = "is missing"
    elif expected is None:
        problem = f"was added: {found}" if found and kind not in _DIGEST_ONLY else "was added"
    else:
        problem = "was changed" if kind in _DIGEST_ONLY else f"is {found or 'empty'!r}, must be {expected!r}"
    return Deviation(kind, name, problem, _remedy(kind, name, found, expected))


def _remedy(kind: str, name: str, found: str | None, expected: str | None) -> str:
    """Return what to do about an object: mostly `rakuten db upgrade`, else a statement for the owner or a superuser."""
    template = _ADDED.get(kind, _UPGRADE) if expected is None else _CHANGED.get(kind, _UPGRADE)
    if kind == "right" and name.startswith("database"):
        template = f"{_UPGRADE}; if the right stays, correct it in psql as the owner of the database"
    table, _, part = name.partition(".")
    member, _, group = name.partition(" in ")
    owner = (found or "").partition(", not ")[2]
    return template.format(
        name=name, table=table, part=part, member=member, group=group, owner=owner, expected=expected
    )


def _sequences_behind(connection: psycopg.Connection[Any]) -> list[Deviation]:
    rows = connection.execute(
        "select table_name, last_id, known_id from public.identities where last_id < known_id"
    ).fetchall()
    return [
        Deviation("identity", name, f"was set back to {last}, but {known} is used", _UPGRADE)
        for name, last, known in rows
    ]
