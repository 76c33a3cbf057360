"""An attack on the database, what must stop it, and what takes that protection away: data for two tests each.

An attack that is refused proves little by itself, because it may be refused for another reason. So the same attack is made
again in a database without the protection, where it has to succeed.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import search_path
from psycopg import errors

from db.database import Database, Role
from db.protections import Deviation, deviations

SUPERUSER = "superuser"
STRANGER = "stranger"  # a login of the cluster that nobody gave anything


@dataclass(frozen=True)
class Attack:
    """What somebody tries in one transaction.

    Attributes:
        name: what is attacked, for the test's id.
        who: a role of the pipeline, SUPERUSER or STRANGER.
        statements: run in order and committed.
        unprotect: the superuser's statements that take the protection away, in this database.
        error: what PostgreSQL must answer; None where the attack gets through and must do no harm.
        message: a pattern that the answer must match, where the kind of error alone does not tell.
        evidence: a value in SQL that differs once the attack has succeeded; None where getting through is success enough.
        restore: where the protection belongs to the whole cluster: what puts it back.
    """

    name: str
    who: str
    statements: tuple[str, ...]
    unprotect: tuple[str, ...]
    error: type[psycopg.Error] | None = errors.InsufficientPrivilege
    message: str | None = None
    evidence: str | None = None
    restore: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.who.removeprefix('rakuten_')}: {self.name}"


def content(table: str) -> str:
    """Evidence of any change of a table."""
    return f"(select string_agg(entry::text, e'\\n' order by entry::text) from {table} as entry)"


def without(function: str, check: str) -> str:
    """A statement that takes a condition out of a function's own text."""
    quoted = check.replace("'", "''")
    return f"""
        do $do$ begin
            execute replace(pg_get_functiondef('{function}'::regproc), '{quoted}', 'true');
        end $do$
    """


class Target:
    """A database that is attacked; `superuser` is a connection to it."""

    def __init__(self, database: Database, superuser: psycopg.Connection, stranger: str) -> None:
        self._database = database
        self._superuser = superuser
        self._stranger = stranger

    def attempt(self, attack: Attack) -> None:
        """Make the attack; raises what PostgreSQL answers."""
        with psycopg.connect(
            self._login(attack.who), options=f"-c statement_timeout=20s {search_path.OPTION}"
        ) as connection:
            for statement in attack.statements:
                connection.execute(statement)

    def evidence(self, attack: Attack) -> object:
        """What differs once the attack has succeeded."""
        return attack.evidence and self.rows(f"select {attack.evidence}")

    @contextmanager
    def without_protection(self, attack: Attack) -> Iterator[None]:
        self.run(attack.unprotect)
        try:
            yield
        finally:
            self.run(attack.restore)

    def run(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self._superuser.execute(statement)

    def rows(self, query: str) -> list[tuple]:
        return self._superuser.execute(query).fetchall()

    def deviations(self) -> list[Deviation]:
        return deviations(self._superuser)

    def upgrade(self) -> None:
        self._database.upgrade()

    def conninfo(self) -> str:
        return self._login(SUPERUSER)

    def _login(self, who: str) -> str:
        database = self._database.settings.postgres_db
        if who == SUPERUSER:
            return self._database.embedded.conninfo(database)
        if who == STRANGER:
            return psycopg.conninfo.make_conninfo(self._stranger, dbname=database)
        return self._database.conninfo(Role(who))
