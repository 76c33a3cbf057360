"""`rakuten data`: make a synthetic data set, check one."""

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.progress import Progress

from shared.config import read_settings

app = typer.Typer(help="Make a synthetic data set, check one.", no_args_is_help=True)


@app.command()
def generate(
    rows: int = typer.Option(10_000, help="training rows; the challenge has 84,916"),
    out: Path = typer.Option(..., help="a folder that holds no data set yet"),
    seed: int = typer.Option(42, help="the same seed gives the same bytes"),
) -> None:
    """Write a synthetic data set in the challenge's format: X_train, Y_train, X_test and Y_test."""
    from db.source.synthetic import generate as generate_data  # noqa: PLC0415

    with Progress(transient=True) as progress:
        task = progress.add_task("generating", total=None)
        test_rows = generate_data(
            out,
            rows,
            seed=seed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"{rows:,} training and {test_rows:,} test rows in {out}")


@app.command()
def check(
    data: Path | None = typer.Option(None, help="the folder; DATA_PATH by default"),
    as_json: bool = typer.Option(False, "--json", help="a JSON list of problems"),
) -> None:
    """Report every problem of the source files, with file, line, value and remedy. Exit code 2 if there is one."""
    from db.source.training_set import check_source  # noqa: PLC0415

    directory = data or read_settings().data_path
    problems = check_source(directory)
    if as_json:
        typer.echo(json.dumps([asdict(problem) for problem in problems], ensure_ascii=False, indent=2))
    else:
        for problem in problems:
            typer.echo(str(problem))
        summary = (
            f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
            if problems
            else "no problems: it can be loaded"
        )
        typer.echo(f"{directory}: {summary}")
    if problems:
        raise typer.Exit(2)
