"""`rakuten predict`: predict the class of every product in a file."""

import csv
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer
from rich.progress import Progress

from db.database import Role
from db.source.csv_file import CsvFile
from db.source.products_file import open_products
from db.source.training_set import LABEL_COLUMNS
from rakuten.console import error_console, problems_as_json, working
from rakuten.output_file import require_new, whole_file
from rakuten.session import open_session
from shared.config import Settings, read_settings
from shared.errors import PipelineError
from shared.extras import require_extra

if TYPE_CHECKING:  # they import MLflow and scikit-learn, which takes seconds
    from listeners.serving.model import Guess, ModelInfo, ServedModel

EXAMPLES: Final = (
    "rakuten predict X_test.csv --out predictions.csv",
    "rakuten predict X_test.csv --probabilities | head",
    "rakuten predict X_test.csv --model models:/rakuten_classifier/3 > predictions.csv",
)
_PROBABILITY_COLUMNS: Final = (
    *("category", "probability"),
    *("second_prdtypecode", "second_category", "second_probability"),
    *("third_prdtypecode", "third_category", "third_probability"),
)

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE.csv",
        help="a CSV file in the format of X_test.csv: the unnamed index, designation, description; other columns are ignored",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER_OR_URI",
        help="a folder or an MLflow URI of a model to use instead of the champion, without PostgreSQL",
    ),
]


def predict(
    file: File,
    *,
    out: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="write the predictions there, whole or not at all; default: standard output",
    ),
    model: Model = None,
    probabilities: bool = typer.Option(
        False,
        "--probabilities",
        help="also write the three most probable classes, with names and probabilities",
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="if the file is rejected, print its problems as JSON; predictions are always CSV",
    ),
) -> None:
    """Predict the class of every product in a CSV file, by the champion.

    The predictions have the challenge's format, as Y_train.csv: one line for each product, with its index and its prdtypecode.
    The whole file is checked first. If it has a problem, nothing is predicted.
    """
    settings = read_settings()
    require_extra("ml")
    if out is not None:
        require_new(out)
    with problems_as_json(as_json), working("checking the file"):
        products = open_products(file)
    with working("loading the model"):
        loaded = _load_model(settings, model)
    began = time.monotonic()
    with nullcontext(sys.stdout) if out is None else whole_file(out) as target:
        _write(target, loaded, products, with_probabilities=probabilities)
    per_second = products.num_rows / (time.monotonic() - began)
    typer.echo(
        f"{products.num_rows:,} products predicted by {_described(loaded.info)}, {per_second:,.0f} a second",
        err=True,
    )


def _load_model(settings: Settings, source: str | None) -> "ServedModel":
    from listeners.serving.champion import (  # noqa: PLC0415
        load_champion,
        recorded_champion,
        require_agreement,
    )
    from listeners.serving.fixed import load_fixed  # noqa: PLC0415

    if source is not None:
        return load_fixed(settings, source)
    with open_session("predict", Role.READER, settings=settings) as session:
        champion = recorded_champion(session.connection)
        if champion is not None:
            require_agreement(session.tracking, champion)
    if champion is None:
        raise PipelineError(
            "there is no champion yet",
            remedy="wait until the first model is trained (rakuten status), or name a model: --model FOLDER_OR_URI",
        )
    return load_champion(session.tracking, champion)


def _write(target: TextIO, model: "ServedModel", products: CsvFile, *, with_probabilities: bool) -> None:
    from listeners.serving.score import score  # noqa: PLC0415

    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*LABEL_COLUMNS, *(_PROBABILITY_COLUMNS if with_probabilities else ())])
    # rich would send what is written to standard output to the terminal of the progress
    with Progress(
        transient=True, console=error_console(), redirect_stdout=False, disable=target.isatty()
    ) as progress:
        task = progress.add_task("predicting", total=products.num_rows)
        for indexes, guesses in score(model, products):
            writer.writerows(_rows(indexes, guesses, with_probabilities=with_probabilities))
            progress.advance(task, len(indexes))


def _rows(
    indexes: Sequence[str], guesses: Sequence[Sequence["Guess"]], *, with_probabilities: bool
) -> Iterator[list[Any]]:
    """Yield the lines of the products. A model without probabilities leaves the fields of the other classes empty."""
    for index, likeliest in zip(indexes, guesses, strict=True):
        if not with_probabilities:
            yield [index, likeliest[0].prdtypecode]
            continue
        fields = [field for guess in likeliest for field in guess]
        yield [index, *fields, *[None] * (1 + len(_PROBABILITY_COLUMNS) - len(fields))]


def _described(info: "ModelInfo") -> str:
    return (
        info.name if info.version is None else f"version {info.version} of {info.name} (batch {info.batch})"
    )
