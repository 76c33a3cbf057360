"""Errors that a user can act on.

Every expected failure is a `PipelineError`. It says what happened, where, and what to do next. The command line prints the
error without a traceback and exits with the error's `exit_code`. Any other exception is a defect.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import ClassVar, Final

_MOST_SHOWN: Final = 20
_NUMBER: Final = re.compile(r"0x\w+|\d+")  # problems whose reasons differ in numbers only have the same cause


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


def describe_problems(problems: Sequence[Problem], rest: str) -> list[str]:
    """Describe problems by cause: first one problem of each cause with the number of its like, then up to 20 problems in all.

    `rest` is the command that lists all problems. The last line names this command if there are more problems than shown.
    """
    causes: dict[tuple[str, str], list[Problem]] = {}
    for problem in sorted(problems, key=lambda problem: (problem.file, problem.line or 0)):
        causes.setdefault((problem.file, _NUMBER.sub("N", problem.reason)), []).append(problem)
    by_cause = sorted(causes.values(), key=len, reverse=True)
    lines = [f"{len(same):,} x {same[0]}" if len(same) > 1 else str(same[0]) for same in by_cause]
    others = [str(problem) for same in by_cause for problem in same[1:]]
    shown = max(0, _MOST_SHOWN - len(lines))
    if len(others) > shown:
        return [*lines, *others[:shown], f"... and {len(others) - shown:,} more: `{rest}` lists all"]
    return lines + others


class BadSourceError(BadInputError):
    """The source files in the folder `path` have problems. Each problem names the file, the line, the value and a remedy."""

    OUTCOME: ClassVar = "in the source files; nothing was loaded"
    COMMAND: ClassVar = "rakuten data check --data {} --json"  # the command that lists all problems

    def __init__(self, problems: Sequence[Problem], path: Path) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
        lines = describe_problems(self.problems, self.COMMAND.format(quote(str(path))))
        count = f"{len(self.problems):,} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n  ".join([f"{count} {self.OUTCOME}", *lines]))


class BadCorrectionError(BadSourceError):
    """The CSV file `path` of a correction has problems. Each problem names the file, the line, the value and a remedy."""

    OUTCOME = "in the correction; nothing was changed"
    COMMAND = "rakuten correct {} --check --json"


class BadConfirmationError(BadSourceError):
    """The CSV file `path` of confirmed labels has problems. Each problem names the file, the line, the value and a remedy."""

    OUTCOME = "in the file; no label was confirmed"
    COMMAND = "rakuten suspects --confirm {} --json"


class BadProductsError(BadSourceError):
    """The CSV file `path` of products to predict has problems. Each problem names the file, the line, the value and a remedy."""

    OUTCOME = "in the file; nothing was predicted"
    COMMAND = "rakuten predict {} --json"


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


class StalledError(OutageError):
    """A child process made no progress and was killed. Its machine was probably at fault, so the batch is tried again."""


class FencedError(StageError):
    """This worker has lost its claim on the batch, usually to another worker. It must neither record nor publish anything."""


class VerificationError(StageError):
    """A dataset, a model or a file failed a check, for example of its SHA-256, so it is neither published nor used."""
