"""`rakuten demo`: run the whole pipeline on one machine. Each listener is a separate process."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import typer
from rich.console import Console
from rich.live import Live

from db import batches
from db.database import Role, embedded_server
from db.embedded.waiting import poll
from db.load import steps
from db.load.openlineage_events import emit_load_events
from db.source.training_set import X_TRAIN, check_source, fingerprints, read_training_set
from rakuten.commands.status import status_table
from rakuten.console import rakuten_command, wide_console
from rakuten.local_system import EXAMPLE_PRODUCT, LocalSystem, recorded_files, run_locally, where_to_look
from rakuten.progress import Progress
from rakuten.session import open_session
from shared.config import Settings, read_settings
from shared.errors import BadInputError, BadSourceError, PipelineError
from shared.events import Stage
from shared.extras import require_extra
from shared.openlineage.emitter import Emitter

EXAMPLES: Final = (
    "rakuten demo",
    "rakuten demo --weeks 5 --rows 84916",
    "rakuten demo --data ~/rakuten --weeks 2",
)

_DEFAULT_ROWS: Final = 10_000
_SERVE_TIMEOUT_S: Final = 120.0  # on a slow machine, the first model is served when MLflow is imported
_ASK_AGAIN_S: Final = 0.2


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
    require_extra("serve")
    console = wide_console(live=True)
    settings = _settings_for(read_settings(postgres_host=None, mlflow_tracking_uri=None), data, rows, console)
    if weeks > settings.last_week:
        raise BadInputError(
            f"there are only {settings.last_week} weeks: in all, they load {settings.max_percentage} % of the training rows",
            remedy=f"choose --weeks from 1 to {settings.last_week}",
        )
    if not _is_complete(settings, weeks, console):
        with run_locally("demo", settings, console, model_server=True, mlflow_pages=False) as system:
            console.print(
                f"Two listeners are connected, and the model server starts; their logs are in {settings.logs_path}"
            )
            _run_weeks(system, weeks, console)
            _ask_the_server(system, console)
    if keep:
        embedded_server(settings).start_in_background()
    lines = ["", "Where to look next", *where_to_look(settings, is_running=keep)]
    if read_settings().postgres_host is not None:
        lines.append(
            "  First unset POSTGRES_HOST: it names another server, and the demo has used the embedded one."
        )
    if keep:
        lines.append(f"  PostgreSQL runs until: {rakuten_command(settings)} db stop")
    lines.append(
        f"  go on     {rakuten_command(settings)} up (it also prints the command that asks the model server)"
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _is_complete(settings: Settings, weeks: int, console: Console) -> bool:
    """Tell whether the weeks already have their models. Show them if they have."""
    if not settings.postgres_path.exists():
        return False
    with open_session("demo", settings=settings) as session:
        rows = batches.pipeline_status(session.connection)
    if not _is_done(rows, weeks):
        return False
    console.print(
        f"Weeks 1 to {weeks} already have their models. `--weeks {weeks + 1}` would load the next week."
    )
    console.print(status_table(rows, console.width))
    return True


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
    if recorded_files(settings) in (None, digests):
        return settings
    own = settings.state_path / f"demo-{digests[X_TRAIN][:8]}"
    console.print(
        f"The database in {settings.state_path} was not loaded from {directory}: the demo uses the folder {own} instead"
    )
    return settings.model_copy(update={"state_path": own})


def _run_weeks(system: LocalSystem, weeks: int, console: Console) -> None:
    session, settings = system.session, system.session.settings
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
                system.pause()
    if not console.is_terminal:
        console.line()  # on a terminal, the live table ends its last line by itself


def _ask_the_server(system: LocalSystem, console: Console) -> None:
    """Show what the model server answers about one product, as soon as it serves the champion of the last week."""
    champion = batches.champion_version(system.session.connection)
    with console.status(f"waiting until the model server serves version {champion}"):
        answer = poll(
            lambda: _prediction_by(system, champion), timeout_s=_SERVE_TIMEOUT_S, interval_s=_ASK_AGAIN_S
        )
    if answer is None:
        console.print(
            f"The model server does not serve version {champion}: see {system.session.settings.logs_path / 'serve.log'}"
        )
        return
    [prediction] = answer["predictions"]
    probability = prediction["probability"]
    console.print(
        f"The model server answers with version {champion} ({answer['model']['batch']}):"
        f" {EXAMPLE_PRODUCT['designation']!r} is class {prediction['prdtypecode']}, {prediction['category']}"
        f"{'' if probability is None else f', with a probability of {probability:.3f}'}",
        markup=False,
    )


def _prediction_by(system: LocalSystem, version: int | None) -> dict[str, Any] | None:
    """Ask the model server about one product. Return its answer, or None if it is not by this version."""
    system.require_processes()
    assert system.server_url is not None  # noqa: S101  the demo starts the server
    token = system.session.settings.serve_token
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    body = json.dumps(EXAMPLE_PRODUCT).encode()
    request = Request(f"{system.server_url}/predict", body, headers)  # noqa: S310  our own server
    answer: dict[str, Any] = {}
    with suppress(OSError), urlopen(request, timeout=30) as response:  # noqa: S310
        answer = json.load(response)
    return answer if answer and answer["model"]["version"] == version else None


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
