"""`rakuten lineage`: show where a batch, dataset, model, product or file comes from, and what was built from it."""

import json
from typing import Final

import typer

from rakuten.console import wide_console, working
from rakuten.provenance.lineage import lineage as lineage_of
from rakuten.provenance.lineage_tree import tree_of
from rakuten.provenance.references import resolve
from rakuten.session import open_session

EXAMPLES: Final = ("rakuten lineage week_3", "rakuten lineage models:/rakuten_classifier/2")


def lineage(
    name: str = typer.Argument(
        metavar="X",
        help="what to trace, such as week_7, correction_1, train_week_7, model_week_7, models:/rakuten_classifier/3, "
        "rakuten_classifier@champion, a run id, product:123, or a file that a run has logged, such as test_predictions.csv",
    ),
    as_json: bool = typer.Option(False, "--json", help="print the lineage as one JSON document"),
) -> None:
    """Show where a batch, dataset, model, product or file comes from, and what was built from it.

    If X is a number, it means the week with this number or, if no such week is loaded, the product with this productid.
    """
    with open_session("lineage") as session, working("following the lineage"):
        reference = resolve(name, session.connection, session.tracking)
        document = lineage_of(reference, session.connection, session.tracking)
    if as_json:
        typer.echo(json.dumps(document, default=lambda moment: moment.isoformat(), indent=2))
    else:
        wide_console().print(tree_of(document))
