"""Say for each error of PostgreSQL what it means: who can end the trouble, and what to do next.

The table is the only place that interprets a SQLSTATE. The listeners, their child processes, the load and the command line ask
it. SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from enum import StrEnum
from typing import Final, NamedTuple

import psycopg


class Kind(StrEnum):
    """What an error of PostgreSQL means.

    CONFLICT: another session is in the way, and the same statement can succeed at once. OUTAGE: the server cannot do it now, and
    recovers without a change of the pipeline. SETTING: the server can never do it until a person corrects a setting. DEFECT:
    the statement or its data is wrong, so a repetition fails, too.
    """

    CONFLICT = "conflict"
    OUTAGE = "outage"
    SETTING = "setting"
    DEFECT = "defect"


class Meaning(NamedTuple):
    """The kind of an error, and the remedy to print with the error."""

    kind: Kind
    remedy: str


_CONFLICT: Final = Meaning(Kind.CONFLICT, "wait, then try again; pg_stat_activity shows the blocking session")
_OUTAGE: Final = Meaning(
    Kind.OUTAGE,
    "wait until PostgreSQL is available again; a listener then goes on by itself, a command must be repeated",
)
_LOGIN: Final = Meaning(
    Kind.SETTING, "correct POSTGRES_USER and POSTGRES_PASSWORD, or the server's pg_hba.conf"
)
_SCHEMA: Final = Meaning(Kind.SETTING, "the database has no schema, or an older one: rakuten db upgrade")
_DEFECT: Final = Meaning(
    Kind.DEFECT, "a repetition fails, too: report this error with the listener's or the command's log"
)

# Keys of five characters are SQLSTATEs, keys of two characters are classes of SQLSTATEs.
_MEANINGS: Final = {
    "40001": _CONFLICT,  # serialization failure
    "40P01": _CONFLICT,  # deadlock
    "55P03": _CONFLICT,  # a lock was not available within lock_timeout
    "08": _OUTAGE,  # connection exceptions
    "53": _OUTAGE,  # insufficient resources: disk full, out of memory, too many connections
    "57P": _OUTAGE,  # the server shuts down, crashed or starts up, or a session was idle for too long
    "58": _OUTAGE,  # system errors, such as an input/output error of the server's disk
    "25P03": _OUTAGE,  # the session was idle in a transaction for too long, for example because this process was frozen
    "25006": Meaning(
        Kind.OUTAGE,
        "the server is read-only, as a standby is: wait until it is promoted, or connect to the primary (POSTGRES_HOST)",
    ),
    "XX001": Meaning(Kind.SETTING, "PostgreSQL's data is damaged: restore a backup"),
    "XX002": Meaning(Kind.SETTING, "an index is damaged: reindex it (reindex database concurrently)"),
    "57014": Meaning(
        Kind.SETTING,
        "somebody or a tool cancelled the statement (pg_cancel_backend): let it exempt the sessions named `rakuten ...`",
    ),
    "25P04": Meaning(Kind.SETTING, "transaction_timeout is too short for this work: raise it for the login"),
    "28": _LOGIN,
    "0P": _LOGIN,
    "3D000": Meaning(Kind.SETTING, "create the database, or correct POSTGRES_DB"),
    "42501": Meaning(
        Kind.SETTING,
        "log in as a member of the role whose step this is (POSTGRES_USER), or grant it: grant rakuten_loader to LOGIN",
    ),
    "42P01": _SCHEMA,
    "42883": _SCHEMA,
    "3F000": _SCHEMA,
    "42703": _SCHEMA,
}


def meaning_of(error: psycopg.Error) -> Meaning:
    """Return what an error of PostgreSQL means.

    An OperationalError without a SQLSTATE comes from the connection: it could not be made, or broke. That is an outage. Any
    other error that the table does not have is a defect.
    """
    code = error.sqlstate
    if code is None:
        return _OUTAGE if isinstance(error, psycopg.OperationalError) else _DEFECT
    for length in (5, 3, 2):
        if (meaning := _MEANINGS.get(code[:length])) is not None:
            return meaning
    return _DEFECT
