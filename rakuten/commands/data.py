"""`rakuten data`: generate a synthetic data set, or check a data set."""

import json
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Final

import typer
from rich.progress import Progress

from rakuten.console import error_console
from shared.config import Settings, read_settings
from shared.errors import BadInputError, BadSourceError, PipelineError, Problem, describe_problems

EXAMPLES: Final = ("rakuten data check --data ~/rakuten", "rakuten data generate --rows 10000 --out data/raw")
INSTALL_PILLOW: Final = "pip install 'rakuten-pipeline[ml]'"

app = typer.Typer(help="Generate a synthetic data set, or check a data set.", no_args_is_help=True)


@app.command()
def generate(
    rows: int = typer.Option(
        10_000, help="number of training rows to write; the real Rakuten data has 84,916"
    ),
    out: Path = typer.Option(..., help="folder for the files; it must not hold a data set yet"),
    seed: int = typer.Option(42, help="random seed; the same --seed and --rows always give identical files"),
) -> None:
    """Write a synthetic data set: the CSV files X_train, Y_train, X_test and Y_test in the format of the Rakuten challenge."""
    from db.source.synthetic import generate as generate_data  # noqa: PLC0415

    with Progress(transient=True, console=error_console()) as progress:
        task = progress.add_task("generating", total=None)
        test_rows = generate_data(
            out.expanduser(),
            rows,
            seed=seed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"{rows:,} training rows and {test_rows:,} test rows written to {out}")


@app.command()
def check(
    data: Path | None = typer.Option(None, help="folder of the source files; default: setting DATA_PATH"),
    as_json: bool = typer.Option(False, "--json", help="print every problem of the files as a JSON list"),
) -> None:
    """Report the problems of the source files by cause, with file, line, value and remedy. With a problem, the exit code is 2.

    If the database has weeks already, also report what the load of the next week would refuse, such as a file that has changed.
    """
    from db.source.training_set import check_source  # noqa: PLC0415

    settings = read_settings()
    directory = (data or settings.data_path).expanduser()
    problems = check_source(directory) or _refusals(settings.model_copy(update={"data_path": directory}))
    if as_json:
        typer.echo(json.dumps([asdict(problem) for problem in problems], ensure_ascii=False, indent=2))
    else:
        for line in describe_problems(problems, BadSourceError.COMMAND.format(quote(str(directory)))):
            typer.echo(line)
        summary = (
            f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
            if problems
            else "no problems: the files can be loaded"
        )
        typer.echo(f"{directory}: {summary}")
    if problems:
        raise typer.Exit(2)
    if not as_json:
        _report_images(directory)


def _report_images(directory: Path) -> None:
    """Print what is wrong with the images. They are no reason to refuse a load, which stores only their paths."""
    from db.source.images import check_images  # noqa: PLC0415

    with Progress(transient=True, console=error_console()) as progress:
        task = progress.add_task("reading images", total=None)
        folders = list(
            check_images(directory, lambda done, total: progress.update(task, completed=done, total=total))
        )
    for found in folders:
        unreadable = (
            f"not checked whether they can be read ({INSTALL_PILLOW})"
            if found.unreadable is None
            else f"{_counted(found.unreadable)} cannot be read"
        )
        typer.echo(
            f"{found.folder}: of {found.images:,} images {_counted(found.missing)} are missing, {unreadable}, "
            f"{found.repeated:,} repeat the image of another product"
        )


def _counted(names: list[str]) -> str:
    return f"{len(names):,} (the first is {names[0]})" if names else "0"


def _refusals(settings: Settings) -> list[Problem]:
    """Return why the load would refuse these files, although nothing is wrong with them. Without a database, return nothing."""
    from db.load.steps import check_current_state  # noqa: PLC0415
    from db.source.training_set import read_training_set  # noqa: PLC0415
    from rakuten.session import open_session  # noqa: PLC0415

    if settings.postgres_host is None and not settings.postgres_path.exists():
        return []
    training_set = read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)
    try:
        with open_session("data check", settings=settings, autocommit=False) as session:
            check_current_state(session.connection, settings, training_set)
    except BadInputError as error:
        subject, _, reason = error.message.partition(
            " "
        )  # the message begins with the file, the setting or the week
        return [Problem(subject, None, "", reason, error.remedy or "")]
    except PipelineError as error:
        typer.echo(f"not compared with the database, which the load also does: {error.message}", err=True)
    return []
