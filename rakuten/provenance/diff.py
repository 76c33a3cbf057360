"""Find how the products differ between two batches. The products are read as they were when each batch was completed."""

from dataclasses import dataclass
from typing import Any, Final

from psycopg.rows import class_row, namedtuple_row

from db.batches import Connection
from db.sql import query
from shared.batch import Batch

# each aspect in which two versions of a product can differ, and the columns of this aspect
ASPECTS: Final = {
    "text": ("designation", "description"),
    "image": ("imageid", "image_path"),
    "label": ("prdtypecode",),
    "split": ("split",),
}


@dataclass(frozen=True)
class ClassDiff:
    """The numbers of products of one class that were added, changed and removed between two batches.

    `text`, `image`, `label` and `split` count the products in which this aspect was changed. A product that was moved to
    another class counts in its new class. `prdtypecode` is None for products without a label.
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
    """One product that differs between two batches.

    `change` is 'added', 'changed' or 'removed'. `changes` maps each changed column to its old and its new value. It is empty
    for a product that was added or removed.
    """

    productid: int
    change: str
    prdtypecode: int | None
    designation: str | None
    changes: dict[str, tuple[Any, Any]]


def diff_by_class(connection: Connection, earlier: Batch, later: Batch) -> list[ClassDiff]:
    """Count the products that differ between two batches, by product class. Classes without a difference are left out."""
    parameters = {"earlier": earlier.id, "later": later.id}
    with connection.cursor(row_factory=class_row(ClassDiff)) as cursor:
        return cursor.execute(query("provenance/diff_by_class"), parameters).fetchall()


def diff_of_products(connection: Connection, earlier: Batch, later: Batch) -> list[ProductDiff]:
    """Return every product that differs between two batches: first the added, then the changed, then the removed ones.

    Each of the three groups is ordered by productid.
    """
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
