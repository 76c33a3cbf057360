"""What differs between the products of two batches, as each of them left them."""

from dataclasses import dataclass
from typing import Any, Final

from psycopg.rows import class_row, namedtuple_row

from db.batches import Connection
from db.sql import query
from shared.batch import Batch

# what may differ, and the columns that say it
ASPECTS: Final = {
    "text": ("designation", "description"),
    "image": ("imageid", "image_path"),
    "label": ("prdtypecode",),
    "split": ("split",),
}


@dataclass(frozen=True)
class ClassDiff:
    """How many products of one class were added, changed and removed, and what was changed of them.

    A product that got another class counts there. `prdtypecode` is None for products without a label.
    """

    prdtypecode: int | None
    added: int
    changed: int
    removed: int
    text: int
    image: int
    label: int
    split: int


@dataclass(frozen=True)
class ProductDiff:
    """One product. `changes` holds old and new value by column; it is empty for one that was added or removed."""

    productid: int
    change: str
    prdtypecode: int | None
    designation: str | None
    changes: dict[str, tuple[Any, Any]]


def diff_by_class(connection: Connection, earlier: Batch, later: Batch) -> list[ClassDiff]:
    """What differs from `earlier` to `later`, for each class where anything does; costs two as-of reads."""
    parameters = {"earlier": earlier.id, "later": later.id}
    with connection.cursor(row_factory=class_row(ClassDiff)) as cursor:
        return cursor.execute(query("provenance/diff_by_class"), parameters).fetchall()


def diff_of_products(connection: Connection, earlier: Batch, later: Batch) -> list[ProductDiff]:
    """Every product that differs: those added, changed and removed, each by productid."""
    parameters = {"earlier": earlier.id, "later": later.id}
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        rows = cursor.execute(query("provenance/diff_of_products"), parameters)
        return [_product_diff(row) for row in rows]


def _product_diff(row: Any) -> ProductDiff:
    before, after = row.before or {}, row.after or {}
    columns = [column for aspect in row.differs or () for column in ASPECTS[aspect]]
    changes = {
        column: (before[column], after[column]) for column in columns if before[column] != after[column]
    }
    title = (after or before)["designation"]
    return ProductDiff(row.productid, row.change, row.prdtypecode, title, changes)
