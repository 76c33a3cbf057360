"""Find every dataset that contained a given product, and every model trained on such a dataset.

The result names only the MLflow runs that PostgreSQL has recorded. MLflow also keeps superseded runs: a later run of the same
batch has replaced them. To find superseded runs, search MLflow for runs with the tag `batch_id` of the batch.
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
    """A completed batch, with its dataset and model.

    `in_dataset` is True if the dataset contains the product. Products without a label and held-out products are in no dataset.
    `productids` are the productids of the product in this dataset. They can differ from its present productid, because somebody
    can change a productid. `product_ids` are their ids in the history. If several products had the productid, one after the
    other, the ids say which of them is in this dataset.
    """

    batch_id: int
    batch_name: str
    in_dataset: bool
    dataset_run_id: str | None
    model_run_id: str | None
    model_version: int | None
    productids: list[int]
    product_ids: list[int]


@dataclass(frozen=True)
class Taint:
    """The history of a product, and for each completed batch whether its dataset contained the product.

    Attributes:
        productid: productid of the product.
        held_out: True if the product was ever in the split 'holdout'. From then on, no dataset contains the product.
        in_holdout_df: True if the product is in holdout_df, the holdout set that is drawn from the source files. Every model is
            evaluated on all products of holdout_df, also on those that are not loaded yet.
        in_test_df: True if the product is in test_df: the test products of the Rakuten data challenge, which are never loaded.
        history: every change of the product and its label (db/sql/queries/provenance/history_of_product.sql), oldest first.
        batches: every completed batch, oldest first.
    """

    productid: int
    held_out: bool
    in_holdout_df: bool
    in_test_df: bool
    history: list[dict[str, Any]]
    batches: list[TaintedBatch]


def taint(connection: Connection, settings: Settings, productid: int) -> Taint:
    """Look up a product in the whole history, even if it was deleted or its productid was changed.

    Args:
        connection: connection with a role that may read the history.
        settings: settings with the folder of the source files. If the product was never loaded, these files say whether the
            holdout or test set contains it.
        productid: productid of the product.

    Raises:
        BadInputError: the product never existed.
        BadSourceError: the product is not loaded, and the source files cannot be read.
    """
    parameters = {"productid": productid}
    known = rows(connection, query("provenance/holdout_of_product"), parameters)
    if known:
        held_out, in_holdout_df, in_test_df = known[0]["held_out"], known[0]["in_holdout_df"], False
    else:
        in_holdout_df, in_test_df = _fixed_sets(connection, settings, productid)
        held_out = in_holdout_df
    holding: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(connection, query("provenance/datasets_of_product"), parameters):
        holding[row["batch_id"]].append(row)
    batches = [
        TaintedBatch(
            in_dataset=row["batch_id"] in holding,
            productids=sorted(found["productid"] for found in holding.get(row["batch_id"], [])),
            product_ids=sorted(found["product_id"] for found in holding.get(row["batch_id"], [])),
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
    """Return whether a product that was never loaded is in holdout_df, and whether it is in test_df.

    Raises:
        BadInputError: neither of the two sets contains the product, or the source files are not those of the first load.
    """
    unknown = f"no product {productid} was ever loaded"
    recorded = recorded_source(connection)
    if recorded is None or recorded["files"] != fingerprints(settings.data_path):
        raise BadInputError(
            f"{unknown}, and the present source files cannot tell whether holdout_df or test_df contains this product",
            remedy="set DATA_PATH to the source files of the first load, which define holdout_df and test_df",
        )
    training = read_training_set(settings.data_path, recorded["random_seed"], recorded["holdout_percentage"])
    in_order = training.table["productid"].to_numpy()[training.order]
    ranks = np.flatnonzero(in_order == productid).tolist()
    in_holdout = any(training.rows(rank, rank + 1)["split"][0].as_py() == "holdout" for rank in ranks)
    in_test = productid in set(read_test_set(settings.data_path)["productid"].to_pylist())
    if not in_holdout and not in_test:
        raise BadInputError(
            f"{unknown}, and neither of the sets holdout_df and test_df contains this product",
            remedy="a later week will load it" if ranks else "choose a productid from X_train.csv",
        )
    return in_holdout, in_test
