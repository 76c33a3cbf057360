"""Keep near-duplicates of held-out products out of the training rows of every dataset, however its batch was completed.

`rakuten load` and `rakuten correct` hold such products out before they complete a batch (db/load/held_out_changes.py). A batch
that somebody completes with psql skips that step. For such a batch, this module checks every text.
"""

import psycopg
from psycopg.rows import TupleRow

from db.load.held_out_changes import due_for_holdout, product_texts
from db.sql import query
from shared.errors import StageError


def require_no_leak(connection: psycopg.Connection[TupleRow], batch_id: int) -> None:
    """Refuse a batch if some of its training products must be held out.

    Raises:
        StageError: some products must be held out; the message names the first, the remedy says how they are held out.
    """
    unchecked = connection.execute(
        query("snapshot/texts_without_holdout_check"), {"batch_id": batch_id}
    ).fetchall()
    if unchecked and (due := due_for_holdout(connection, product_texts(unchecked))):
        raise StageError(
            f"{len(due)} training products of batch {batch_id} are near-duplicates of held-out products, or were held out before;"
            f" the first is productid {due[0]}. The batch was completed without rakuten, which would have held them out",
            remedy="the next `rakuten load` or `rakuten correct` holds these products out; this batch gets no dataset",
        )
