"""The holdout beyond the source file: what was held out once stays so, and what becomes a near-duplicate of it is held out too.

`holdout_df` comes from the source file and never changes. A product that is in it, or that ever was of split 'holdout', is
never trained on, whatever its text becomes; and a training product whose text is changed into a group that is held out
becomes 'holdout' from then on. So no dataset holds a product of the holdout, nor a near-duplicate of one.
"""

from typing import Any

import pyarrow as pa

from db.load.writing import Connection
from db.source.holdout import is_holdout
from db.sql import query


def due_for_holdout(connection: Connection, rows: pa.Table) -> list[int]:
    """The productids among the rows that are to be held out: for their text, or because they ever were.

    Args:
        connection: in a transaction; the first load has recorded its seed and percentage.
        rows: with productid (int64), designation and description (string, nullable).
    """
    productids = rows["productid"].to_pylist()
    recorded = connection.execute(
        "select metadata -> 'source' from data_loads order by id limit 1"
    ).fetchone()
    assert recorded is not None  # noqa: S101  batches come before changes
    by_text = is_holdout(rows, recorded[0]["random_seed"], recorded[0]["holdout_percentage"])
    before = connection.execute(query("load/ever_held_out"), {"productids": productids}).fetchall()
    return sorted(
        {productid for (productid,) in before}.union(rows.filter(pa.array(by_text))["productid"].to_pylist())
    )


def hold_out_changes(connection: Connection, batch_id: int) -> int:
    """Hold out what was changed by other means than this batch's rows, where that is due; returns how many products.

    Nothing is done for a batch that is not running: it takes no more changes.

    Args:
        connection: in a transaction that keeps writers out until the batch is complete.
        batch_id: the batch that records it.
    """
    changed = connection.execute(query("load/changed_outside_batch"), {"batch_id": batch_id}).fetchall()
    if not changed:
        return 0
    due = due_for_holdout(connection, product_texts(changed))
    if due:
        connection.execute("select begin_batch(%s)", [batch_id])
        connection.execute("update products set split = 'holdout' where productid = any(%s)", [due])
    return len(due)


def product_texts(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Tuples of productid, designation and description as a table."""
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    types = (pa.int64(), pa.string(), pa.string())
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    return pa.table(arrays, names=["productid", "designation", "description"])
