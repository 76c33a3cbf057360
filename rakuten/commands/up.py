"""`rakuten up`: run the whole pipeline on this machine until Ctrl-C."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from db import batches
from db.source.training_set import X_TRAIN, fingerprints
from rakuten.console import rakuten_command, shell_path, wide_console
from rakuten.local_system import LocalSystem, recorded_files, run_locally, where_to_look
from rakuten.progress import Progress
from shared.config import Settings, read_settings
from shared.errors import BadInputError
from shared.extras import require_extra

EXAMPLES: Final = ("rakuten up", "rakuten up --data ~/rakuten")


def up(
    data: Path | None = typer.Option(
        None, help="folder with the CSV files; by default DATA_PATH, or the files that a demo has generated"
    ),
    mlflow: bool = typer.Option(
        True, "--mlflow/--no-mlflow", help="also serve MLflow's pages on a free port"
    ),
    serve: bool = typer.Option(
        True, "--serve/--no-serve", help="also run the model server, on SERVE_PORT or any free port"
    ),
) -> None:
    """Run the whole pipeline on this machine until Ctrl-C: PostgreSQL, both listeners, the model server, and MLflow's pages.

    While it runs, `rakuten load` in another terminal loads the next week, and this command shows what becomes of it.
    """
    require_extra("ml")  # its listeners need it
    if mlflow:
        require_extra("mlflow-server")
    if serve:
        require_extra("serve")
    console = wide_console(live=True)
    settings = _settings_for(read_settings(postgres_host=None, mlflow_tracking_uri=None), data)
    try:
        with run_locally("up", settings, console, model_server=serve, mlflow_pages=mlflow) as system:
            _show(system, console)
    except KeyboardInterrupt:
        console.print(f"Stopped. {rakuten_command(settings)} up goes on from here.", markup=False)


def _settings_for(settings: Settings, data: Path | None) -> Settings:
    """Return the settings with the folder of the source files, which the listeners read, too.

    Before the first load, this is the first folder with files. After it, it is the folder whose files the first load recorded.
    """
    generated = sorted(path.parent for path in settings.state_path.glob(f"generated-*/{X_TRAIN}"))
    folders = [data.expanduser().absolute()] if data else [settings.data_path, *generated]
    recorded = recorded_files(settings)
    for folder in folders:
        files = fingerprints(folder)
        if files == recorded if recorded else X_TRAIN in files:
            return settings.model_copy(update={"data_path": folder})
    if recorded is None:
        return settings.model_copy(update={"data_path": folders[0]})
    raise BadInputError(
        f"the database in {settings.state_path} was not loaded from {' or '.join(map(str, folders))}",
        remedy="name the folder of its files: rakuten up --data FOLDER",
    )


def _show(system: LocalSystem, console: Console) -> None:
    """Show the batches and where to look, until Ctrl-C."""
    settings = system.session.settings
    lines = [
        *where_to_look(
            settings,
            is_running=True,
            mlflow_url=system.mlflow_url,
            server_url=system.server_url,
            metrics_urls=system.metrics_urls,
        ),
        f"  next week {_load_command(settings)}",
        "  Ctrl-C ends the listeners, the model server, MLflow and PostgreSQL, in this order.",
    ]
    progress = Progress(console)
    view = Group(progress, Text("\n".join(lines), no_wrap=False))
    if console.is_terminal:
        screen: AbstractContextManager[object] = Live(view, console=console, refresh_per_second=4)
    else:
        screen = nullcontext()
        console.print("\n".join(lines), markup=False, soft_wrap=True)
    with screen:
        while True:
            progress.show(batches.pipeline_status(system.session.connection))
            system.pause()


def _load_command(settings: Settings) -> str:
    command = f"{rakuten_command(settings)} load"
    is_default = settings.data_path == read_settings().data_path
    return command if is_default else f"DATA_PATH={shell_path(settings.data_path)} {command}"
