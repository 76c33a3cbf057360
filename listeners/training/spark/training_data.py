"""Collect on the driver what the training stage needs to know about the training products, without their texts."""

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  Spark's own name for it

from listeners.training.dataset import TrainingData
from listeners.training.evaluate import Codes
from listeners.training.spark.fit import SparkLinear
from listeners.training.suspects import MAX_LOGGED, find_suspects


def collect_training_data(products: DataFrame, model: SparkLinear, sampled: Codes) -> TrainingData:
    """Return productids, labels and copies of all products (24 bytes a product), and the titles of some.

    Suspects and drift read no other titles. The titles of the other products are None.

    Args:
        products: what the model was fitted on.
        model: fitted on them; the titles of the most suspicious products are collected.
        sampled: productids of the products that drift compares, int64; their titles are collected, too.
    """
    table = products.select("productid", "prdtypecode", "copies").orderBy("productid").toArrow()
    productids, labels, copies = (table[name].to_numpy().astype(np.int64) for name in table.column_names)
    titles = np.full(len(labels), None, object)
    named = [sampled]
    if model.out_of_fold is not None:
        named.append(productids[find_suspects(labels, model.out_of_fold, model.classes)[0][:MAX_LOGGED]])
    wanted = F.col("productid").isin(np.unique(np.concatenate(named)).tolist())
    for row in products.filter(wanted).select("productid", "designation").toArrow().to_pylist():
        titles[np.searchsorted(productids, row["productid"])] = row["designation"]
    return TrainingData(pd.DataFrame({"designation": titles}), productids, labels, copies)
