"""`rakuten lineage`: where something comes from, and what became of it."""

import json
from typing import Final

import typer

from rakuten.console import wide_console
from rakuten.provenance.lineage import lineage as lineage_of
from rakuten.provenance.lineage_tree import tree_of
from rakuten.provenance.references import resolve
from rakuten.session import open_session

_UNFOLDED: Final = 10_000  # columns, where a program reads: a line of the tree stays one line


def lineage(
    name: str = typer.Argument(
        metavar="X",
        help="week_7, correction_1, train_week_7, model_week_7, models:/rakuten_classifier/3, rakuten_classifier@champion, "
        "a run id, product:123, or a file that a run has logged, such as test_predictions.csv",
    ),
    as_json: bool = typer.Option(False, "--json", help="the same as one JSON document"),
) -> None:
    """Show where something comes from and what became of it: files, batches, dataset, model, versions.

    A bare number is a week if that week is loaded, and otherwise a product.
    """
    with open_session("lineage") as session:
        reference = resolve(name, session.connection, session.tracking)
        document = lineage_of(reference, session.connection, session.tracking)
    if as_json:
        typer.echo(json.dumps(document, default=lambda moment: moment.isoformat(), indent=2))
    else:
        wide_console(_UNFOLDED).print(tree_of(document))
