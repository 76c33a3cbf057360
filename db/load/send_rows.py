"""Send one week's rows to PostgreSQL, in the transaction of the caller.

Usually COPY writes the rows straight into `products` and `labels`. But somebody may have inserted or deleted one of the rows by
hand, or an earlier attempt may have written it. In these cases, COPY writes all rows of the week into a staging table. From
there only missing rows go into `products` and `labels`: existing rows keep their values, and deleted rows stay deleted.
"""

import psycopg

from db.load.writing import Connection, copy_rows
from db.source.training_set import TrainingSet
from db.sql import query


def send_week(
    connection: Connection, training_set: TrainingSet, first_rank: int, end_rank: int
) -> tuple[int, int]:
    """Send the rows with ranks from `first_rank` to `end_rank` - 1. Return the numbers of products and labels written."""
    ranks = {"first_rank": first_rank, "end_rank": end_rank}
    if connection.execute(query("load/deleted_of_week"), ranks).fetchone() is None:
        try:
            with connection.transaction():
                return _copy(connection, training_set, first_rank, end_rank)
        except psycopg.errors.UniqueViolation:
            pass
    return _merge(connection, training_set, first_rank, end_rank)


def _copy(
    connection: Connection, training_set: TrainingSet, first_rank: int, end_rank: int
) -> tuple[int, int]:
    chunks = training_set.chunks(first_rank, end_rank)
    products = copy_rows(
        connection, "load/copy_products", (rows.drop_columns(["index", "prdtypecode"]) for rows in chunks)
    )
    labels = copy_rows(connection, "load/copy_labels", [training_set.labels(first_rank, end_rank)])
    return products, labels


def _merge(
    connection: Connection, training_set: TrainingSet, first_rank: int, end_rank: int
) -> tuple[int, int]:
    chunks = training_set.chunks(first_rank, end_rank)
    connection.execute(query("load/create_staging"))
    copy_rows(connection, "load/copy_staging", (rows.drop_columns("index") for rows in chunks))
    connection.execute(query("load/skip_deleted"))
    products = connection.execute(query("load/merge_products")).rowcount
    labels = connection.execute(query("load/merge_labels")).rowcount
    return products, labels
