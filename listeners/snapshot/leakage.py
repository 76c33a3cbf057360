"""No dataset is built in which a near-duplicate of a held-out product is trained on, however its batch came about.

`rakuten load` and `rakuten correct` hold such products out before they complete a batch (db/load/held_out_changes.py). Whoever completes one
with psql has not: then every text is looked at here.
"""

import psycopg
from psycopg.rows import TupleRow

from db.load.held_out_changes import due_for_holdout, product_texts
from db.sql import query
from shared.errors import StageError


def require_no_leak(connection: psycopg.Connection[TupleRow], batch_id: int) -> None:
    """Refuse a batch whose training products include some that are to be held out.

    Raises:
        StageError: names the first of them, and how the next batch is made whole.
    """
    unchecked = connection.execute(
        query("snapshot/texts_without_holdout_check"), {"batch_id": batch_id}
    ).fetchall()
    if unchecked and (due := due_for_holdout(connection, product_texts(unchecked))):
        raise StageError(
            f"{len(due)} training products of batch {batch_id} are near-duplicates of held-out ones, or were held out before:"
            f" productid {due[0]} first. The batch was completed without rakuten, which would have held them out",
            remedy="the next `rakuten load` or `rakuten correct` holds them out; this batch gets no dataset",
        )
