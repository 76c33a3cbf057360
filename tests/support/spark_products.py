"""Products for tests of the model on Spark, and what the local engine makes of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from listeners.training.dataset import TrainingData, read_training_data

WORDS = {
    10: "roman livre poche édition auteur histoire",
    2583: "piscine pompe filtre liner bâche eau",
    2060: "coussin rideau décoration lampe tapis salon",
}
# What sorts differently as bytes, code points or in a language, what NFKD changes, and HTML.
ODD = [
    "ﬃx ™ ª²½",
    "\U0001d7d8😀 z\u0301é",
    "~a _b-c 漢字ー ٣Ⅷ",
    "<p>l&#39;&eacute;t&eacute;</p>",
    "\u00a0 \u2028",
    "İıẞß aA",
]


def products(n: int = 200, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    codes = random.choice(list(WORDS), n, p=[0.2, 0.5, 0.3])
    titles, descriptions = (
        [" ".join(random.choice([*WORDS[code].split(), "lot", "neuf", *ODD], 6)) for code in codes]
        for _ in range(2)
    )
    return pd.DataFrame(
        {
            "productid": random.permutation(10 * n)[:n] - n,
            "designation": np.where(random.random(n) < 0.03, None, titles),
            "description": np.where(random.random(n) < 0.35, None, descriptions),
            "image_path": "images/x.jpg",
            "prdtypecode": codes.astype(np.int32),
        }
    )


def write_dataset(path: Path, frame: pd.DataFrame) -> TrainingData:
    """Write a dataset in which each class has about as many rows, and return what the local engine reads from it."""
    sizes = frame["prdtypecode"].map(frame["prdtypecode"].value_counts()).to_numpy()
    copies = np.maximum(1, sizes.max() // sizes)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.take(np.repeat(np.arange(len(frame)), copies)), path, row_group_size=50)
    return read_training_data(path)


def distinct_products(dataset):
    """Return each product of a dataset once, with its copies, wherever they are in the files."""
    from pyspark.sql import functions  # noqa: PLC0415  tests without pyspark import this module

    first = [functions.first(name).alias(name) for name in ("designation", "description", "prdtypecode")]
    return dataset.groupBy("productid").agg(*first, functions.count("*").alias("copies"))
