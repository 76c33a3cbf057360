"""Break everything that can break, on purpose, and look whether each week still becomes one dataset and one model.

    python tests/chaos/run.py [--only TEXT]... [--runs N] [--json FILE [--resume]] [--report FILE] [--logs DIR] [--list]

Real listeners, a real PostgreSQL, a real MLflow server, all in a temporary directory that is removed. The exit code is 1 when
anything was lost or done twice, or was not back in time.
"""

import argparse
import json
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import invariants
import report
from environment import Environment, open_environment
from faults import FAULTS
from rich.console import Console
from rich.live import Live
from runs import Fault, Result, execute, settle
from scoreboard import Scoreboard

from shared.config import configure_third_parties, read_settings

# a file or a pipe has no width, and 80 columns would break every line of the table
console = Console(width=None if sys.stdout.isatty() else 130, highlight=False)


def main(
    suite: list[Fault] = FAULTS,
    open_suite: Callable = open_environment,
    write_report: Callable = report.write,
) -> int:
    """Run a suite in the environment that `open_suite` opens. Return the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended
    configure_third_parties()
    faults = [
        fault for fault in suite if not options.only or any(text in fault.name for text in options.only)
    ]
    if options.list:
        for fault in faults:
            console.print(f"{fault.runs:3} x {fault.name}", markup=False)
        return 0
    board = Scoreboard([_with_runs(fault, options.runs) for fault in faults])
    if options.resume:
        for entry in json.loads(options.json.read_text()):
            board.add(Result(**entry))
    started = time.monotonic()
    with (
        _shown(board) as show,
        open_suite(bindir=read_settings(_env_file=None).pg_bindir) as environment,
    ):
        try:
            for fault in faults:
                _run_all(environment, fault, options.runs or fault.runs, board, show, options.json)
            show("looking at all batches once more ...")
            board.last_look = _look_at_all(environment)
            if options.report is not None:
                write_report(board, environment, options.report)
        finally:
            if options.logs is not None:
                _keep_logs(environment, options.logs)
    _print_verdict(board, time.monotonic() - started)
    return 0 if board.holds else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="faults whose name holds this; may be repeated"
    )
    parser.add_argument("--runs", type=int, metavar="N", help="of each fault, instead of its own number")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every run there, as soon as it is over"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on after the runs that the file of --json already has"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page of docs/ there")
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="keep the logs of listeners and servers there"
    )
    parser.add_argument("--list", action="store_true", help="show the faults and end")
    options = parser.parse_args()
    if options.resume and options.json is None:
        parser.error("--resume needs --json FILE")
    return options


def _with_runs(fault: Fault, runs: int | None) -> Fault:
    return fault if runs is None else Fault(**{**vars(fault), "runs": runs})


def _run_all(
    environment: Environment, fault: Fault, runs: int, board: Scoreboard, show, results: Path | None
) -> None:
    """Run a fault so many times, less the runs that the board has already. Write the file of results after each run."""
    if reason := fault.unavailable(environment):
        board.lines[fault.kind].not_run = reason
        show(f"{fault.name}: not run, {reason}")
        return
    done = sum((result.kind, result.detail) == (fault.kind, fault.detail) for result in board.results)
    for number in range(done + 1, runs + 1):
        show(f"{fault.name}, {number} of {runs} ...", passing=True)
        result = _run(environment, fault)
        board.add(result)
        if results is not None:
            results.write_text(json.dumps([asdict(one) for one in board.results], indent=1) + "\n")
        show(
            f"{fault.name}: {fault.measures} {result.recovery_s:.2f} s, done {result.done_s:.1f} s {'; '.join(result.problems)}"
        )


def _run(environment: Environment, fault: Fault) -> Result:
    """One run, whatever becomes of it: the next one starts from new listeners if this one left something behind."""
    try:
        assert settle(environment, fault), "the listeners do not come to rest before the fault"
        result = execute(environment, fault)
        if result.done_s == float("inf"):
            environment.mend()
    except Exception as error:  # noqa: BLE001  a fault that cannot be injected is a result, too
        told = traceback.format_exception(error)
        environment.mend()
        result = Result(fault.kind, fault.detail, float("inf"), float("inf"), 0, 0, ["".join(told[-3:])])
    return result


def _look_at_all(environment: Environment) -> invariants.Verdict:
    """What was right after its fault must have stayed so, whatever was killed, started and reconciled since."""
    finished = environment.query(
        "select id from data_loads where metadata #>> '{training,state}' = 'finished' order by id"
    )
    return invariants.check(environment, [row["id"] for row in finished])


@contextmanager
def _shown(board: Scoreboard) -> Iterator:
    """A table that is kept up to date on a terminal, a line for each run elsewhere."""
    if not console.is_terminal:

        def show(line: str, *, passing: bool = False) -> None:
            if not passing:
                done = f"[{len(board.results)}/{sum(line.planned for line in board.lines.values())}]"
                console.print(f"{done} {line}", markup=False)

        yield show
        return
    with Live(board.table(), console=console, vertical_overflow="visible") as live:

        def show(line: str, *, passing: bool = False) -> None:
            live.update(board.table(caption=f"{board.total()}\n{line}"), refresh=True)

        yield show


def _print_verdict(board: Scoreboard, seconds: float) -> None:
    if not console.is_terminal:
        console.print(board.table())
    console.print(f"{board.total()}, in {seconds / 60:.0f} min")
    console.print(board.recovery())
    if board.last_look is not None:
        look = board.last_look
        console.print(f"all batches once more at the end: {look.lost} lost, {look.doubled} doubled")
        for problem in look.problems:
            console.print(f"  {problem}", markup=False)
    for line in board.missed:
        console.print(f"does not hold: {line.kind}", style="red")
        for problem in line.problems:
            console.print(f"  {problem}", markup=False)


def _keep_logs(environment: Environment, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for log in (
        *environment.listeners.logs.values(),
        environment.model_server.log,
        *(environment.spark.logs() if environment.spark else ()),
        environment.directory / "mlflow" / "server.log",
        environment.directory / "postgres" / "server.log",
    ):
        shutil.copyfile(log, directory / f"{log.parent.name}-{log.name}")


if __name__ == "__main__":
    sys.exit(main())
