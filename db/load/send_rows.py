"""Send one week's rows to PostgreSQL, in the transaction of the caller.

Usually COPY writes the rows straight into the tables. If one of the rows exists already (from an earlier attempt, or entered
by somebody) or was deleted, all rows go through a staging table. Existing rows then keep their values, and deleted rows stay
deleted.
"""

import psycopg

from db.load.writing import Connection, copy_rows
from db.source.training_set import TrainingSet
from db.sql import query


def send_week(
    connection: Connection, training_set: TrainingSet, first_rank: int, end_rank: int
) -> tuple[int, int]:
    """Send the rows with these ranks. Return how many products and labels were written."""
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
