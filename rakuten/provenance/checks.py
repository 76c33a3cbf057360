"""Define the result of one check by `rakuten verify`."""

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why a check may fail: a change, a batch that PostgreSQL does not have, or work that is not done yet."""

    CHANGED = "changed"
    ORPHANED = "orphaned"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """The result of one check by `rakuten verify`, for example of one file of a run (the `subject`).

    Attributes:
        batch_name: name of the batch that the subject belongs to; empty if the subject does not belong to a single batch.
        subject: what was checked.
        problem: what is wrong with the subject, or None if nothing is wrong.
        cause: why the check failed, if it failed.
        remedy: what to do about the problem; empty if `rakuten reproduce` and `rakuten lineage` help.
    """

    batch_name: str
    subject: str
    problem: str | None = None
    cause: Cause = Cause.CHANGED
    remedy: str = ""

    @property
    def certain(self) -> bool:
        """False if the problem may have another cause than a change."""
        return self.cause is Cause.CHANGED


def differs(what: str, found: object, recorded: object) -> str | None:
    """Return the problem of a value that is not the recorded one, or None if it is."""
    return None if found == recorded else f"{what} is {found}, and was {recorded}"
