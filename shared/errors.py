"""Errors that a user can act on.

Every expected failure is a `PipelineError`. It says what happened, where, and what to do next. The command line prints the
error without a traceback and exits with the error's `exit_code`. Any other exception is a defect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class PipelineError(Exception):
    """An expected failure. The message says what happened, and `remedy` says what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message


class BadInputError(PipelineError):
    """The input, for example a file or a setting, is rejected as a whole. Nothing was written."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One problem in one CSV file. `line` is the line where the CSV row begins (header: 1), or None for the whole file."""

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
    """The source files have problems. Each problem names the file, the line, the value and a remedy."""

    MAX_SHOWN: ClassVar = 20
    OUTCOME: ClassVar = "in the source files; nothing was loaded"
    COMMAND: ClassVar = "rakuten data check"  # the command that lists all problems

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
        lines = [f"  {problem}" for problem in self.problems[: self.MAX_SHOWN]]
        if len(self.problems) > self.MAX_SHOWN:
            lines.append(f"  ... and {len(self.problems) - self.MAX_SHOWN} more: `{self.COMMAND}` lists all")
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"{count} {self.OUTCOME}", *lines]))


class BadCorrectionError(BadSourceError):
    """The CSV file of a correction has problems. Each problem names the file, the line, the value and a remedy."""

    OUTCOME = "in the correction; nothing was changed"
    COMMAND = "rakuten correct --json"


class SourceChangedError(BadInputError):
    """A source file, or a setting that decides which rows are loaded, has changed since the first load."""


class DatabaseUnavailableError(PipelineError):
    """PostgreSQL cannot be reached or started."""


class LoadError(PipelineError):
    """A load or correction failed: for example, another load is running, PostgreSQL reported an error, or rows are wrong."""


class StageError(PipelineError):
    """A stage (snapshot or training) could not finish its work on a batch."""


class OutageError(StageError):
    """PostgreSQL, MLflow or this machine cannot do the work now. The batch is not at fault. The stage retries until it can.

    `remedy` is set if the outage does not end by itself: a person must do what it says.
    """


class FencedError(StageError):
    """This worker has lost its claim on the batch, usually to another worker. It must neither record nor publish anything."""


class VerificationError(StageError):
    """A dataset, a model or a file failed a check, for example of its SHA-256, so it is neither published nor used."""
