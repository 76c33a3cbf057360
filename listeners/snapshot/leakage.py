"""Refuse a batch whose training rows contain near-duplicates of held-out products, so that no dataset leaks the holdout.

`rakuten load` and `rakuten correct` move such products into the holdout before they complete a batch
(db/load/held_out_changes.py). If somebody completes a batch with psql instead, nothing is moved. So this module
checks the texts of each batch that was completed without these commands.
"""

import psycopg
from psycopg.rows import TupleRow

from db.load.held_out_changes import due_for_holdout, product_texts
from db.sql import query
from shared.errors import StageError


def require_no_leak(connection: psycopg.Connection[TupleRow], batch_id: int) -> None:
    """Raise an error if training products of a batch are near-duplicates of held-out products or were held out before.

    Raises:
        StageError: the batch has such products. The message names the first of them, and the remedy says how to hold them out.
    """
    unchecked = connection.execute(
        query("snapshot/texts_without_holdout_check"), {"batch_id": batch_id}
    ).fetchall()
    if unchecked and (due := due_for_holdout(connection, product_texts(unchecked))):
        raise StageError(
            f"{len(due)} training products of batch {batch_id} are near-duplicates of held-out products or were held out before"
            f" (first: product {due[0]}). `rakuten load` and `rakuten correct` move such products to the holdout, but neither"
            " of them completed this batch",
            remedy="this batch gets no dataset. Run the next `rakuten load` or `rakuten correct`: it holds these products out",
        )
