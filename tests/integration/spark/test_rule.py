"""Spark's hash is ours, and its copies are those of the local engine."""

import numpy as np
import pyarrow as pa
import pytest

from listeners.snapshot.balance import multiplicities
from shared.hashing import Salt, keys, text_keys

pytest.importorskip("pyspark")

from listeners.snapshot.spark.balance import balance, key_of

EXTREME = [-(2**63), -(2**63) + 1, -(2**32), -1, 0, 1, 2**31, 2**32, 2**62, 2**63 - 1]


@pytest.mark.parametrize("seed", [42, -1, -(2**63), 2**63 - 1])
def test_the_hash_of_numbers_and_texts_is_the_same_for_each_salt(spark, seed):
    numbers = np.array([*EXTREME, *np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 200)], np.int64)
    texts = ["", "a", "élan \U0001f600", "x" * 100, "\u0000", "日本語" * 40]
    hashed = spark.createDataFrame(pa.table({"number": numbers})).select(
        *(key_of("number", seed, salt).alias(salt.name) for salt in Salt)
    )
    found = hashed.toArrow()
    for salt in Salt:
        assert found[salt.name].to_pylist() == keys(numbers, seed, salt).tolist()
    hashed = spark.createDataFrame(pa.table({"text": texts})).select(
        key_of("text", seed, Salt.HOLDOUT).alias("key")
    )
    assert hashed.toArrow()["key"].to_pylist() == text_keys(texts, seed, Salt.HOLDOUT).tolist()


@pytest.mark.parametrize("sizes", [{-5: 1, 10: 997, 20: 998, 30: 64}, {10: 7}, {10: 3, 20: 3}])
def test_the_copies_of_each_product_are_those_of_the_local_engine(spark, sizes):
    random = np.random.default_rng(3)
    labels = random.permutation(np.repeat(list(sizes), list(sizes.values()))).astype(np.int32)
    productids = np.unique([*EXTREME, *random.integers(-(2**63), 2**63 - 1, 3000)])
    productids = random.permutation(productids)[: len(labels)].astype(np.int64)
    rows = pa.table({"productid": productids, "prdtypecode": labels})
    balanced = balance(spark, spark.createDataFrame(rows).repartition(3), 42)
    found = balanced.products.toArrow()
    expected = dict(zip(productids.tolist(), multiplicities(productids, labels, 42).tolist(), strict=True))
    assert dict(zip(found["productid"].to_pylist(), found["copies"].to_pylist(), strict=True)) == expected
    assert (balanced.source_rows, balanced.rows_per_class) == (
        dict(sorted(sizes.items())),
        max(sizes.values()),
    )
