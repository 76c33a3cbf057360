"""Which datasets and models ever contained a product: to be known when it has to be erased, or was wrong."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy

from db.batches import pipeline_status
from db.sql import query
from shared.errors import BadInputError


@dataclass(frozen=True)
class TaintedBatch:
    """A completed batch, and what came of it. `in_dataset`: the product was trained on, with a label, as of this batch."""

    batch_id: int
    batch_name: str
    in_dataset: bool
    dataset_run_id: str | None
    model_run_id: str | None
    model_version: int | None


@dataclass(frozen=True)
class Taint:
    """Everything that contained a product.

    Attributes:
        productid: of the product.
        held_out: whether it ever was of split 'holdout', which no dataset holds from then on.
        in_holdout_df: whether it came so from the source file: then every model was evaluated on it.
        history: everything that happened to it and its label (db/sql/queries/history_of_product.sql), oldest first.
        batches: every completed batch, oldest first.
    """

    productid: int
    held_out: bool
    in_holdout_df: bool
    history: list[dict[str, Any]]
    batches: list[TaintedBatch]


def taint(connection: sqlalchemy.Connection, productid: int) -> Taint:
    """Look a product up in the whole history, also one that was deleted or got another productid.

    Raises:
        BadInputError: it never existed.
    """
    parameters = {"productid": productid}
    held_out = connection.exec_driver_sql(query("holdout_of_product"), parameters).one_or_none()
    if held_out is None:
        raise BadInputError(
            f"no product {productid} was ever loaded", remedy="productids are those of X_train.csv"
        )
    history = connection.exec_driver_sql(query("history_of_product"), parameters).mappings()
    holders = connection.exec_driver_sql(query("datasets_of_product"), parameters)
    holding = {row.batch_id for row in holders}
    batches = [
        TaintedBatch(
            in_dataset=row["batch_id"] in holding,
            **{
                name: row[name]
                for name in ("batch_id", "batch_name", "dataset_run_id", "model_run_id", "model_version")
            },
        )
        for row in pipeline_status(connection)
        if row["status"] == "completed"
    ]
    return Taint(
        productid, held_out.held_out, held_out.in_holdout_df, [dict(row) for row in history], batches
    )
