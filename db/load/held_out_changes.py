"""Keep held-out products out of training when their text changes after the load.

Two sets of products are never used for training:

- The published holdout set (`holdout_df`) is computed from the source files and never changes.
- The products with the split 'holdout' in PostgreSQL are at first the loaded products of `holdout_df`. If the text of a
  training product becomes nearly the same as the text of a held-out product, the training product gets the split 'holdout',
  too. No product ever loses this split.

So no training dataset contains a held-out product or a near-duplicate of one.
"""

from typing import Any

import pyarrow as pa

from db.load.writing import Connection
from db.source.holdout import is_holdout
from db.sql import query


def due_for_holdout(connection: Connection, rows: pa.Table) -> list[int]:
    """Return those productids of `rows` that must be held out of training.

    These are the products whose text belongs to the holdout, and the products that had the split 'holdout' at any time before.
    `is_holdout` decides about the texts, with the random seed and the holdout percentage that the first load recorded.

    Args:
        connection: a connection in a transaction. The first load must have recorded its random seed and holdout percentage.
        rows: products with the columns productid (int64), designation and description (string, nullable).
    """
    productids = rows["productid"].to_pylist()
    recorded = connection.execute(
        "select metadata -> 'source' from data_loads order by id limit 1"
    ).fetchone()
    assert recorded is not None  # noqa: S101  a batch exists before any change
    by_text = is_holdout(rows, recorded[0]["random_seed"], recorded[0]["holdout_percentage"])
    before = connection.execute(query("load/ever_held_out"), {"productids": productids}).fetchall()
    return sorted(
        {productid for (productid,) in before}.union(rows.filter(pa.array(by_text))["productid"].to_pylist())
    )


def hold_out_changes(connection: Connection, batch_id: int) -> int:
    """Set the split 'holdout' for every training product that `due_for_holdout` returns. Return the number of these products.

    Only products that were changed since the last complete batch are examined. Products that this batch inserted from its file
    are not examined, because their split was already computed from their text. If the batch is not running, no product is
    held out.

    Args:
        connection: a connection in a transaction that blocks all other writers until the batch is complete.
        batch_id: the running batch. The change of the split is recorded as a part of this batch.
    """
    changed = connection.execute(query("load/changed_outside_batch"), {"batch_id": batch_id}).fetchall()
    if not changed:
        return 0
    due = due_for_holdout(connection, product_texts(changed))
    if due:
        connection.execute("select begin_batch(%s)", [batch_id])
        connection.execute("update products set split = 'holdout' where productid = any(%s::bigint[])", [due])
    return len(due)


def product_texts(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Return an Arrow table of products from tuples (productid, designation, description)."""
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    types = (pa.int64(), pa.string(), pa.string())
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    return pa.table(arrays, names=["productid", "designation", "description"])
