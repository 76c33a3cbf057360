"""`rakuten diff`: show how the products differ between two batches."""

import json
from dataclasses import asdict
from typing import Any, Final

import typer
from rich.table import Table

from db.batches import find_batch
from rakuten.console import wide_console, working
from rakuten.provenance.diff import ASPECTS, ClassDiff, ProductDiff, diff_by_class, diff_of_products
from rakuten.session import open_session
from shared.categories import category_name

EXAMPLES: Final = ("rakuten diff week_1 week_3",)

_COUNTS: Final = ("added", "changed", "removed")
_SIGNS: Final = {"added": "+", "changed": "~", "removed": "-"}
_TEXT_SHOWN: Final = 40
_CONTEXT: Final = 10


def diff(
    earlier: str = typer.Argument(metavar="WEEK_A", help="first batch, for example week_3 or correction_1"),
    later: str = typer.Argument(metavar="WEEK_B", help="second batch, for example week_7 or correction_2"),
    as_json: bool = typer.Option(False, "--json", help="print the differences as one JSON object"),
    listed: bool = typer.Option(False, "--list", help="also list the added, changed and removed products"),
) -> None:
    """Count, for each product class, the products that were added, changed and removed between two batches."""
    with open_session("diff") as session, working("comparing the two batches"):
        batches = find_batch(session.connection, earlier), find_batch(session.connection, later)
        classes = diff_by_class(session.connection, *batches)
        products = diff_of_products(session.connection, *batches) if listed else None
    names = tuple(batch.name for batch in batches)
    if as_json:
        typer.echo(json.dumps(_document(names, classes, products), ensure_ascii=False, indent=2))
        return
    if not classes:
        typer.echo(f"{names[0]} and {names[1]} hold the same products")
        return
    wide_console().print(_table(names, classes))
    for product in products or ():
        typer.echo(_line(product))


def _totals(classes: list[ClassDiff]) -> dict[str, int]:
    return {name: sum(getattr(row, name) for row in classes) for name in (*_COUNTS, *ASPECTS)}


def _document(
    names: tuple[str, ...], classes: list[ClassDiff], products: list[ProductDiff] | None
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "earlier": names[0],
        "later": names[1],
        "totals": _totals(classes),
        "classes": [{**asdict(row), "name": _name(row.prdtypecode)} for row in classes],
    }
    return document if products is None else {**document, "products": [asdict(row) for row in products]}


def _name(code: int | None) -> str:
    return "without a label" if code is None else category_name(code)


def _table(names: tuple[str, ...], classes: list[ClassDiff]) -> Table:
    totals = _totals(classes)
    changed = ", ".join(f"{aspect} {totals[aspect]:,}" for aspect in ASPECTS if totals[aspect])
    table = Table(
        title=f"from {names[0]} to {names[1]}",
        caption=f"changed: {changed}" if changed else None,
        show_footer=True,
    )
    table.add_column("class", "", justify="right")
    table.add_column("name", "all")
    for name in _COUNTS:
        table.add_column(name, f"{totals[name]:,}", justify="right")
    for row in classes:
        counts = (getattr(row, name) for name in _COUNTS)
        code = "" if row.prdtypecode is None else str(row.prdtypecode)
        table.add_row(code, _name(row.prdtypecode), *(f"{count:,}" if count else "" for count in counts))
    return table


def _line(product: ProductDiff) -> str:
    """Return the line that says how a product differs between two batches, for example `~ 123: prdtypecode 10 -> 40`.

    The line begins with + for an added product, ~ for a changed one, and - for a removed one. Control characters in texts are
    escaped, because a terminal would execute them.
    """
    changes = ", ".join(
        f"{column} {_shown(old, new)} -> {_shown(new, old)}" for column, (old, new) in product.changes.items()
    )
    what = changes or f"{product.prdtypecode or 'no label'} {_shown(product.designation, None)}"
    return f"{_SIGNS[product.change]} {product.productid}: {what}"


def _shown(value: object, other_value: object) -> str:
    """Return a product's value in one of the two compared batches as text, shortened if it is long.

    The shortened text begins shortly before the place where it first differs from `other_value`, the value in the other batch.
    """
    if not isinstance(value, str):
        return "null" if value is None else str(value)
    begin = 0
    if isinstance(other_value, str) and len(value) > _TEXT_SHOWN:
        begin = max(0, _first_difference(value, other_value) - _CONTEXT)
    text = value[begin : begin + _TEXT_SHOWN]
    rest = "..." if begin + len(text) < len(value) else ""
    return f"{'...' if begin else ''}{text!r}{rest}"


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
