"""Errors that a user can act on.

Every expected failure derives from `PipelineError` and says what happened, where, and what to do next.
The command line prints it without a traceback and exits with its `exit_code`; anything else is a defect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class PipelineError(Exception):
    """An expected failure: what happened and, as `remedy`, what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message


class BadInputError(PipelineError):
    """The input is refused whole; nothing was written."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with one source file. `line` is the physical line where the row begins, 1 is the header."""

    file: str
    line: int | None
    value: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else self.file
        value = f" (value: {self.value!r})" if self.value else ""
        return f"{where}: {self.reason}{value}\n    remedy: {self.remedy}"


class BadSourceError(BadInputError):
    """The source files have problems; each one names file, line, value and remedy."""

    SHOWN: ClassVar = 20
    OUTCOME: ClassVar = "in the source files; nothing was loaded"
    LISTS_ALL: ClassVar = "rakuten data check"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
        lines = [f"  {problem}" for problem in self.problems[: self.SHOWN]]
        if len(self.problems) > self.SHOWN:
            lines.append(f"  ... and {len(self.problems) - self.SHOWN} more: `{self.LISTS_ALL}` lists all")
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"{count} {self.OUTCOME}", *lines]))


class BadCorrectionError(BadSourceError):
    """A correction's file has problems; each one names file, line, value and remedy."""

    OUTCOME = "in the correction; nothing was changed"
    LISTS_ALL = "rakuten correct --json"


class SourceChangedError(BadInputError):
    """A source file or a setting that decides which rows are loaded differs from the first load's."""


class DatabaseUnavailableError(PipelineError):
    """PostgreSQL cannot be reached or started."""


class LoadError(PipelineError):
    """A load could not be finished; its batch is marked 'failed' and holds no rows."""


class StageError(PipelineError):
    """A stage could not finish a batch."""


class OutageError(StageError):
    """Something that the stage stands on is away: PostgreSQL, MLflow, disk space. No fault of the batch; it is waited out."""


class FencedError(StageError):
    """Another worker has claimed this batch since: this one may neither record nor publish anything."""


class VerificationError(StageError):
    """What was built is not what was promised; it is not published."""
