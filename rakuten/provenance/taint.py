"""Which datasets and models ever contained a product: to be known when it has to be erased, or was wrong.

Named are the runs that count, those that PostgreSQL has on record. A run that another attempt superseded is kept by MLflow all
the same; its tag `batch_id` says of which batch it was.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from db.batches import Connection, pipeline_status, rows
from db.load.source_record import recorded_source
from db.source.training_set import fingerprints, read_test_set, read_training_set
from db.sql import query
from shared.config import Settings
from shared.errors import BadInputError


@dataclass(frozen=True)
class TaintedBatch:
    """A completed batch, and what came of it.

    `in_dataset`: the product was trained on, with a label, as of this batch; `productids`: under which productid.
    """

    batch_id: int
    batch_name: str
    in_dataset: bool
    dataset_run_id: str | None
    model_run_id: str | None
    model_version: int | None
    productids: list[int]


@dataclass(frozen=True)
class Taint:
    """Everything that contained a product.

    Attributes:
        productid: of the product.
        held_out: whether it ever was of split 'holdout', which no dataset holds from then on.
        in_holdout_df: whether it comes so from the source file: then every model was evaluated on it, also before its week.
        in_test_df: whether it is one of the challenge's test products, which are never loaded.
        history: everything that happened to it and its label (db/sql/queries/history_of_product.sql), oldest first.
        batches: every completed batch, oldest first.
    """

    productid: int
    held_out: bool
    in_holdout_df: bool
    in_test_df: bool
    history: list[dict[str, Any]]
    batches: list[TaintedBatch]


def taint(connection: Connection, settings: Settings, productid: int) -> Taint:
    """Look a product up in the whole history, also one that was deleted or got another productid.

    Args:
        connection: of a role that may read the history.
        settings: where the source files are, which tell of a product that is not loaded whether a fixed set holds it.
        productid: of the product.

    Raises:
        BadInputError: it never existed.
        BadSourceError: it is not loaded, and the source files cannot be read.
    """
    parameters = {"productid": productid}
    known = rows(connection, query("provenance/holdout_of_product"), parameters)
    if known:
        held_out, in_holdout_df, in_test_df = known[0]["held_out"], known[0]["in_holdout_df"], False
    else:
        in_holdout_df, in_test_df = _fixed_sets(connection, settings, productid)
        held_out = in_holdout_df
    holding: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows(connection, query("provenance/datasets_of_product"), parameters):
        holding[row["batch_id"]].append(row["productid"])
    batches = [
        TaintedBatch(
            in_dataset=row["batch_id"] in holding,
            productids=sorted(holding.get(row["batch_id"], [])),
            **{
                name: row[name]
                for name in ("batch_id", "batch_name", "dataset_run_id", "model_run_id", "model_version")
            },
        )
        for row in pipeline_status(connection)
        if row["status"] == "completed"
    ]
    history = rows(connection, query("provenance/history_of_product"), parameters)
    return Taint(productid, held_out, in_holdout_df, in_test_df, history, batches)


def _fixed_sets(connection: Connection, settings: Settings, productid: int) -> tuple[bool, bool]:
    """Whether holdout_df and test_df hold a product that was never loaded; raises BadInputError where neither does."""
    unknown = f"no product {productid} was ever loaded"
    recorded = recorded_source(connection)
    if recorded is None or recorded["files"] != fingerprints(settings.data_path):
        raise BadInputError(
            f"{unknown}; whether a fixed set holds it is not known",
            remedy="set DATA_PATH to the source files of the first load: they say which products the fixed sets hold",
        )
    training = read_training_set(settings.data_path, recorded["random_seed"], recorded["holdout_percentage"])
    in_order = training.table["productid"].to_numpy()[training.order]
    ranks = np.flatnonzero(in_order == productid).tolist()
    in_holdout = any(training.rows(rank, rank + 1)["split"][0].as_py() == "holdout" for rank in ranks)
    in_test = productid in set(read_test_set(settings.data_path)["productid"].to_pylist())
    if not in_holdout and not in_test:
        raise BadInputError(
            f"{unknown}, and no fixed set holds it",
            remedy="a later week brings it" if ranks else "productids are those of X_train.csv",
        )
    return in_holdout, in_test
