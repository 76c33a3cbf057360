"""`rakuten demo`: run the whole pipeline on one machine. Each listener is a separate process."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, Final, TypeAlias

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from db import batches
from db.database import Role, embedded_server
from db.load import steps
from db.load.openlineage_events import emit_load_events
from db.load.source_record import recorded_source
from db.source.training_set import X_TRAIN, check_source, fingerprints, read_training_set
from rakuten.commands.status import status_table
from rakuten.console import rakuten_command, shell_path, wide_console
from rakuten.session import Session, open_session
from shared.config import Settings, environment_for, read_settings
from shared.errors import BadInputError, BadSourceError, PipelineError
from shared.events import Stage
from shared.extras import require_extra
from shared.openlineage.emitter import Emitter

_DEFAULT_ROWS: Final = 10_000
_POLL_INTERVAL_S: Final = 0.2
_STOP_TIMEOUT_S: Final = 60.0
_LONG_STEP_S: Final = 10.0
_STEP_OF: Final = {Stage.SNAPSHOT: "building the dataset", Stage.TRAINING: "training the model"}

_Processes: TypeAlias = Mapping[Stage, subprocess.Popen[bytes]]


def demo(
    data: Path | None = typer.Option(
        None, help="folder with the challenge's CSV files; by default, they are generated"
    ),
    weeks: int = typer.Option(3, min=1, help="number of weeks to load"),
    rows: int = typer.Option(
        _DEFAULT_ROWS, min=27, help="number of training rows to generate, if --data is not given"
    ),
    keep: bool = typer.Option(False, "--keep", help="keep PostgreSQL running after the demo"),
) -> None:
    """Load weeks of products into an embedded PostgreSQL, and watch how each week gets a balanced dataset and a model."""
    require_extra("ml")  # its listeners need it
    console = wide_console()
    settings = _settings_for(read_settings(postgres_host=None, mlflow_tracking_uri=None), data, rows, console)
    if weeks > settings.last_week:
        raise BadInputError(
            f"there are only {settings.last_week} weeks: in all, they load {settings.max_percentage} % of the training rows",
            remedy=f"choose --weeks from 1 to {settings.last_week}",
        )
    with open_session("demo", settings=settings) as session:
        if _is_done(batches.pipeline_status(session.connection), weeks):
            console.print(
                f"Weeks 1 to {weeks} already have their models. `--weeks {weeks + 1}` would load the next week."
            )
            console.print(status_table(batches.pipeline_status(session.connection)))
        else:
            with _listeners(settings) as processes:
                _wait_until_listening(session, processes, console)
                _run_weeks(session, weeks, processes, console)
    if keep:
        embedded_server(settings).start_in_background()
    _print_where_to_look(settings, keep, console)


def _settings_for(settings: Settings, data: Path | None, rows: int, console: Console) -> Settings:
    """Return the settings for the data of the demo. If `data` is None, generate CSV files with `rows` training rows first.

    If the folder STATE_PATH already holds a database that was loaded from other data, the demo gets a new folder in STATE_PATH.
    """
    generated = settings.state_path / f"generated-{rows}"
    directory = (data or generated).expanduser().absolute()
    if data is None and not (generated / X_TRAIN).exists():
        from db.source.synthetic import generate  # noqa: PLC0415

        with console.status(f"generating {rows:,} products"):
            generate(generated, rows)
        console.print(f"Generated {rows:,} training rows in {generated}")
    problems = check_source(directory)
    if problems:
        raise BadSourceError(problems, directory)
    settings = settings.model_copy(update={"data_path": directory})
    digests = fingerprints(directory)
    if settings.postgres_path.exists():
        with open_session("demo", Role.LOADER, settings=settings, autocommit=False) as session:
            recorded = recorded_source(session.connection)
        if recorded is not None and recorded["files"] != digests:
            own = settings.state_path / f"demo-{digests[X_TRAIN][:8]}"
            console.print(
                f"The database in {settings.state_path} was not loaded from {directory}: the demo uses the folder {own} instead"
            )
            settings = settings.model_copy(update={"state_path": own})
    return settings


@contextmanager
def _listeners(settings: Settings) -> Iterator[_Processes]:
    """Run the snapshot and the training listener as two processes, and terminate both at the end of the `with` block."""
    logs = settings.logs_path
    logs.mkdir(parents=True, exist_ok=True)
    started: dict[Stage, subprocess.Popen[bytes]] = {}
    try:
        for stage in Stage:
            with (logs / f"{stage}.log").open("ab") as log:
                started[stage] = subprocess.Popen(
                    [Path(sys.executable).with_name("rakuten"), "listen", stage, "--with-parent"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=environment_for(settings),
                    cwd=settings.state_path,
                )
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait(_STOP_TIMEOUT_S)


def _wait_until_listening(session: Session, processes: _Processes, console: Console) -> None:
    with console.status("starting two listeners: importing MLflow and scikit-learn takes a while"):
        while not batches.listening_stages(session.connection) >= set(Stage):
            _raise_if_ended(session.settings, processes)
            time.sleep(_POLL_INTERVAL_S)
    console.print(f"Two listeners are connected; their logs are in {session.settings.logs_path}")


def _run_weeks(session: Session, weeks: int, processes: _Processes, console: Console) -> None:
    settings = session.settings
    progress = Progress(console)
    with (
        Live(progress, console=console, refresh_per_second=4, transient=False),
        Emitter(settings) as emitter,
    ):
        progress.begin("reading the files")
        training_set = read_training_set(
            settings.data_path, settings.random_seed, settings.holdout_percentage
        )
        for week in range(1, weeks + 1):
            progress.begin(f"week_{week}: loading the rows")
            with (
                session.database.connect(Role.LOADER, "rakuten demo load") as connection,
                emit_load_events(connection, emitter) as run,
            ):
                steps.load_week(connection, settings, training_set, up_to=week, on_claim=run.started)
            while True:
                rows = batches.pipeline_status(session.connection)
                progress.show(rows)
                if _is_done(rows, week):
                    break
                _raise_if_given_up(rows, settings)
                _raise_if_ended(settings, processes)
                time.sleep(_POLL_INTERVAL_S)


class Progress:
    """What the demo shows: one line per week and, if the present step takes more than 10 s, the step and its seconds so far.

    A terminal always shows the present seconds. Anything else, such as a file, gets a line after 10 s, 20 s, 40 s and so on.
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
        self._rows = rows
        if (step := _unfinished_step(rows)) != self._step:
            self.begin(step)
        if not self._console.is_terminal and step and self._seconds >= self._print_after_s:
            self._print_after_s *= 2
            self._console.print(self._line())

    def __rich__(self) -> Group:
        table = [status_table(self._rows)] if self._rows else []
        return Group(*table, *([self._line()] if self._step and self._seconds >= _LONG_STEP_S else []))

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


def _is_done(rows: list[dict[str, Any]], weeks: int) -> bool:
    done = {row["batch_name"] for row in rows if row["training_state"] == "finished"}
    return all(f"week_{week}" in done for week in range(1, weeks + 1))


def _raise_if_given_up(rows: list[dict[str, Any]], settings: Settings) -> None:
    logs = settings.logs_path
    for row in rows:
        for stage in Stage:
            if row[f"{stage}_state"] == "failed":
                raise PipelineError(
                    f"batch {row['batch_name']}: the {stage} stage gave up: {row[f'{stage}_error']}",
                    remedy=f"see {logs / f'{stage}.log'}; then run: {rakuten_command(settings)} retry, and the demo again",
                )


def _raise_if_ended(settings: Settings, processes: _Processes) -> None:
    logs = settings.logs_path
    for stage, process in processes.items():
        if process.poll() is not None:
            raise PipelineError(
                f"the {stage} listener ended with exit code {process.returncode}",
                remedy=f"see {logs / f'{stage}.log'}",
            )


def _print_where_to_look(settings: Settings, keep: bool, console: Console) -> None:
    commands, rakuten = Path(sys.executable).parent, rakuten_command(settings)
    psql = "psql" if shutil.which("psql") else shell_path(Path(embedded_server(settings).program("psql")))
    lines = [
        "",
        "Where to look next",
        f'  psql      {"" if keep else f"{rakuten} db start && "}{psql} "$({rakuten} db url)"',
        "              select * from pipeline_status;   select * from products_as_of_batch(1) limit 5;",
        f"  MLflow    {shell_path(commands / 'mlflow')} ui --backend-store-uri {quote(settings.tracking_uri)}",
        f"  datasets  {shell_path(settings.snapshots_path)}",
        f"  logs      {shell_path(settings.logs_path)}",
        f"  status    {rakuten} status",
    ]
    if read_settings().postgres_host is not None:
        lines.append(
            "  First unset POSTGRES_HOST: it names another server, and the demo has used the embedded one."
        )
    if keep:
        lines.append(f"  PostgreSQL runs until: {rakuten} db stop")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
