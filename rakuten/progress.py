"""Show what the pipeline does: one line per batch, and the step that takes long."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from rakuten.commands.status import status_table
from shared.events import Stage

_LONG_STEP_S: Final = 10.0
_STEP_OF: Final = {Stage.SNAPSHOT: "building the dataset", Stage.TRAINING: "training the model"}
_RESULT_OF: Final[dict[Stage, Callable[[dict[str, Any]], str]]] = {
    Stage.SNAPSHOT: lambda row: f"the dataset has {row['snapshot_rows']:,} rows",
    Stage.TRAINING: lambda row: (
        f"the model has F1 {row['f1_score']:.3f}{', and is the champion' if row['became_champion'] else ''}"
    ),
}


class Progress:
    """One line per batch and, if the present step takes more than 10 s, the step and its seconds so far.

    A terminal always shows the present seconds. Anything else, such as a file, gets a line when a dataset or a model is finished,
    and when the present step has taken 10 s, 20 s, 40 s and so on.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._rows: list[dict[str, Any]] = []
        self.begin("")

    def begin(self, step: str) -> None:
        """Set the present step. Its seconds are counted from now."""
        self._step, self._began, self._print_after_s = step, self._clock(), _LONG_STEP_S

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Show the rows of `pipeline_status`, and count the seconds of the first step that is not finished."""
        before, self._rows = self._rows, rows
        if not self._console.is_terminal:
            for line in _finished_since(before, rows):
                self._console.print(line, markup=False, soft_wrap=True)
        if (step := _unfinished_step(rows)) != self._step:
            self.begin(step)
        if not self._console.is_terminal and step and self._seconds >= self._print_after_s:
            self._print_after_s *= 2
            self._console.print(self._line())

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        table = [status_table(self._rows, options.max_width)] if self._rows else []
        yield Group(*table, *([self._line()] if self._step and self._seconds >= _LONG_STEP_S else []))

    @property
    def _seconds(self) -> float:
        return self._clock() - self._began

    def _line(self) -> Text:
        return Text(f"{self._step}, for {self._seconds:.0f} s")


def _unfinished_step(rows: list[dict[str, Any]]) -> str:
    """Return what is being done, and the error of the last attempt if there was one. Return "" if nothing is left to do."""
    for row in rows:
        for stage in Stage:
            if row[f"{stage}_state"] != "finished":
                error = row[f"{stage}_error"]
                return f"{row['batch_name']}: {_STEP_OF[stage]}" + (f" again after: {error}" if error else "")
    return ""


def _finished_since(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Iterator[str]:
    """Say which datasets and models are finished now and were not finished before."""
    finished = {(row["batch_name"], stage) for row in before for stage in Stage if _is_finished(row, stage)}
    for row in rows:
        for stage in Stage:
            if _is_finished(row, stage) and (row["batch_name"], stage) not in finished:
                yield f"{row['batch_name']}: {_RESULT_OF[stage](row)}"


def _is_finished(row: dict[str, Any], stage: Stage) -> bool:
    return bool(row[f"{stage}_state"] == "finished")
