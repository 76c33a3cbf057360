"""Compute TF-IDF features on Spark's workers: the vocabulary, the idf and the features of the local engine, bit for bit.

The workers run the local engine's own functions for cleaning and counting. What they add up are integers, so the sums do not
depend on the order. The driver holds the vocabulary, and of all other frequent terms only how often they occur.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pandas.util import hash_array
from pyspark import Broadcast, StorageLevel
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  Spark's own name for it
from pyspark.sql.types import IntegerType, LongType, StructField, StructType
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from listeners.training.calibration import FOLDS, text_folds
from listeners.training.features import TfidfBlock, most_frequent, set_terms, weigh
from listeners.training.term_counts import count_terms
from listeners.training.text import TEXT_COLUMNS, text_cleaner

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

# The number of partitions depends only on the number of products. So the solver adds the same partial sums on every cluster. The features of
# 25,000 products take some 150 MB, and each partition also makes one gradient, which has the size of the coefficients.
PRODUCTS_PER_PARTITION: Final = 25_000
_KEYS: Final = ("productid", "prdtypecode", "copies", "fold")
_CLEAN: Final = (
    "productid bigint, prdtypecode bigint, copies bigint, fold int, designation string, description string"
)
_DF: Final = tuple(f"df_{fold}" for fold in range(FOLDS))
_SUMS: Final = ("tf", *_DF)
_COUNTED: Final = "block int, term string, " + ", ".join(f"{name} bigint" for name in (*_SUMS, "fingerprint"))
_VECTORISED: Final = StructType(
    [
        *(StructField(name, IntegerType() if name == "fold" else LongType()) for name in _KEYS),
        StructField("features", VectorUDT()),
    ]
)
_SPARSE: Final = 0  # VectorUDT's type of a sparse vector
_VECTOR: Final = pa.struct(
    [
        pa.field("type", pa.int8()),
        pa.field("size", pa.int32()),
        pa.field("indices", pa.list_(pa.int32())),
        pa.field("values", pa.list_(pa.float64())),
    ]
)


class Vocabulary(NamedTuple):
    """The terms of all blocks, and which of them are in exactly the same products equally often.

    The features that Spark fits have one column for each group of such terms of a block, as `training.features.merge_equal_columns`
    explains: n_columns instead of n_terms.

    Attributes:
        blocks: with fitted vectorizers.
        document_frequency: for each fold, how many copies of its products contain each term, shape (FOLDS, n_terms), int64.
        first: the first term of each column, shape (n_columns,), int64, ascending.
        column: the column of each term, shape (n_terms,), int64.
    """

    blocks: Sequence[TfidfBlock]
    document_frequency: _Ints
    first: _Ints
    column: _Ints

    @property
    def length(self) -> _Floats:
        """Return the length of the vector of ones that a column stands for, shape (n_columns,)."""
        return np.sqrt(np.bincount(self.column))

    def shares(self, fold: int, min_df: int) -> _Floats:
        """Return 1 for the columns of each block that are frequent enough without a fold, else 0, shape (n_blocks, n_columns)."""
        outside = np.delete(self.document_frequency, fold, axis=0).sum(axis=0)[self.first]
        sizes = [len(block.vectorizer.idf_) for block in self.blocks]
        shares: _Floats = np.repeat(np.eye(len(sizes)), sizes, axis=1)[:, self.first] * (outside >= min_df)
        return shares

    def merged(self, features: sparse.csr_array) -> sparse.csr_array:
        """Return features of all terms, shape (n, n_terms), as features of the columns, shape (n, n_columns)."""
        merged = features[:, self.first]
        merged.data *= self.length[merged.indices]
        return merged

    def unmerged(self, coefficients: _Floats) -> _Floats:
        """Return coefficients of the columns, shape (k, n_columns), as those of the terms, shape (k, n_terms)."""
        unmerged: _Floats = (coefficients / self.length)[:, self.column]
        return unmerged


def clean_texts(products: DataFrame, *, seed: int) -> DataFrame:
    """Clean the texts of products, and give each product its fold. Return _CLEAN, in partitions that only the products decide on.

    Args:
        products: with the columns productid, designation, description, prdtypecode and copies; each product once.
        seed: of the folds; see `calibration.text_folds`.
    """
    wanted = products.select(
        F.col("productid").cast("bigint"),
        F.col("prdtypecode").cast("bigint"),
        F.col("copies").cast("bigint"),
        *TEXT_COLUMNS,
    )
    partitions = max(2, math.ceil(wanted.count() / PRODUCTS_PER_PARTITION))
    spread = wanted.repartition(partitions, "productid").sortWithinPartitions("productid")
    return spread.mapInArrow(partial(_clean, seed=seed), _CLEAN)


def _clean(batches: Iterator[pa.RecordBatch], *, seed: int) -> Iterator[pa.RecordBatch]:
    cleaner = text_cleaner()
    for batch in batches:
        if batch.num_rows:
            texts = pd.DataFrame({name: batch.column(name).to_pandas() for name in TEXT_COLUMNS})
            folds = pa.array(text_folds(texts, seed=seed), pa.int32())
            cleaned = cleaner.transform(texts)
            columns = [batch.column(name) for name in _KEYS[:3]]
            columns += [folds, *(pa.array(cleaned[name].tolist(), pa.string()) for name in TEXT_COLUMNS)]
            yield pa.RecordBatch.from_arrays(columns, [*_KEYS, *TEXT_COLUMNS])


def find_vocabulary(cleaned: DataFrame, blocks: Sequence[TfidfBlock], *, copies: int) -> Vocabulary:
    """Choose the terms of each block as `training.features.fit_tfidf` does, and fit the vectorizers in place.

    Args:
        cleaned: what `clean_texts` returned.
        blocks: with vectorizers that are not fitted, and that have the same min_df.
        copies: the number of copies of all products.

    Raises:
        ValueError: a block has no term that is frequent enough.
    """
    [min_df] = {block.vectorizer.min_df for block in blocks}
    counted = (
        cleaned.mapInArrow(partial(_count, blocks=blocks), _COUNTED)
        .groupBy("block", "term")
        .agg(*(F.sum(name).alias(name) for name in _SUMS), F.bit_xor("fingerprint").alias("fingerprint"))
    )
    frequent = counted.filter(sum(map(F.col, _DF), F.lit(0)) >= min_df).persist(StorageLevel.DISK_ONLY)
    try:
        numbers = {row["block"]: row["count"] for row in frequent.groupBy("block").count().collect()}
        frequencies, groups = [], []
        for number, block in enumerate(blocks):
            mine = frequent.filter(F.col("block") == number)
            table = _chosen(mine, numbers.get(number, 0), block.vectorizer.max_features)
            of_folds = np.array([table[name].to_numpy() for name in _DF], np.int64)
            of_all = of_folds.sum(axis=0).astype(np.float64)
            set_terms(block.vectorizer, table["term"].to_pylist(), of_all, copies)
            frequencies.append(of_folds)
            groups.append(pd.DataFrame({"block": number, "fingerprint": table["fingerprint"].to_numpy()}))
    finally:
        frequent.unpersist()
    column = (
        pd.concat(groups).groupby(["block", "fingerprint"], sort=False).ngroup().to_numpy().astype(np.int64)
    )
    return Vocabulary(blocks, np.hstack(frequencies), np.unique(column, return_index=True)[1], column)


def _count(batches: Iterator[pa.RecordBatch], *, blocks: Sequence[TfidfBlock]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        productids, copies, folds = (
            batch.column(name).to_numpy() for name in ("productid", "copies", "fold")
        )
        for number, block in enumerate(blocks):
            counts = count_terms(block.vectorizer, batch.column(block.column).to_pylist())
            matrix, n_terms = counts.matrix, counts.matrix.shape[1]
            rows = np.repeat(np.arange(len(copies)), np.diff(matrix.indptr))
            of_value, fold_of_value = copies[rows], folds[rows]
            # All sums are integers far below 2^53, so they are exact as floats.
            frequencies = [
                np.bincount(matrix.indices, weights, n_terms).astype(np.int64)
                for weights in (
                    of_value * matrix.data,
                    *(np.where(fold_of_value == fold, of_value, 0) for fold in range(FOLDS)),
                )
            ]
            terms = pa.array(list(counts.terms(np.arange(n_terms))), pa.string())
            fingerprints = np.zeros(n_terms, np.int64)
            np.bitwise_xor.at(fingerprints, matrix.indices, _hashes(productids[rows], matrix.data))
            columns = [pa.array(np.full(n_terms, number, np.int32)), terms]
            columns += map(pa.array, (*frequencies, fingerprints))
            yield pa.RecordBatch.from_arrays(columns, ["block", "term", *_SUMS, "fingerprint"])


def _hashes(productids: _Ints, counts: _Floats) -> _Ints:
    """Return a hash of each pair, shape (n,). Terms whose hashes have the same exclusive or are in the same products equally often."""
    mixed = hash_array(productids) + counts.astype(np.uint64)
    return hash_array(mixed).view(np.int64)


def _chosen(frequent: DataFrame, number: int, limit: int | None) -> pa.Table:
    """Return the terms that a block keeps, in string order, with their document frequencies.

    Spark compares the bytes of UTF-8 strings, and Python the code points: both have the same order. If terms at the limit are equally
    frequent, the rule of the local engine needs the frequencies of all terms in this order. So the driver gets 8 bytes for each
    frequent term, but only the strings of terms that may be kept.
    """
    kept: Any = slice(None)
    if limit is not None and number > limit:
        frequencies = frequent.orderBy("term").select("tf").toArrow()["tf"].to_numpy()
        chosen = most_frequent(frequencies.astype(np.float64), limit)
        least = int(frequencies[chosen].min())
        frequent = frequent.filter(F.col("tf") >= least)
        kept = pa.array(np.isin(np.flatnonzero(frequencies >= least), chosen))
    table = frequent.orderBy("term").select("term", *_DF, "fingerprint").toArrow()
    return table if isinstance(kept, slice) else table.filter(kept)


def vectorise(cleaned: DataFrame, vocabulary: "Broadcast[Vocabulary]") -> DataFrame:
    """Return for each product productid, prdtypecode, copies, fold and its features, a sparse vector of Spark.

    Args:
        cleaned: what `clean_texts` returned.
        vocabulary: what `find_vocabulary` returned.
    """
    return cleaned.mapInArrow(partial(_vectorise, vocabulary=vocabulary), _VECTORISED)


def _vectorise(
    batches: Iterator[pa.RecordBatch], *, vocabulary: "Broadcast[Vocabulary]"
) -> Iterator[pa.RecordBatch]:
    terms = vocabulary.value
    for batch in batches:
        if batch.num_rows:
            matrices = [
                _features(block.vectorizer, batch.column(block.column).to_pylist()) for block in terms.blocks
            ]
            vectors = as_vectors(terms.merged(sparse.hstack(matrices, format="csr")))
            columns = [batch.column(name) for name in _KEYS]
            yield pa.RecordBatch.from_arrays([*columns, vectors], [*_KEYS, "features"])


def _features(vectorizer: TfidfVectorizer, texts: Sequence[str]) -> sparse.csr_array:
    """Return what `vectorizer.transform` returns, faster."""
    counts = count_terms(vectorizer, texts)
    terms = counts.terms(np.arange(counts.matrix.shape[1]))
    column_of = vectorizer.vocabulary_
    columns = np.fromiter((column_of.get(term, -1) for term in terms), np.int32, counts.matrix.shape[1])
    known = np.flatnonzero(columns >= 0)
    matrix = counts.matrix[:, known]
    indices = columns[known][matrix.indices]
    shape = len(texts), len(column_of)
    return weigh(vectorizer, sparse.csr_array((matrix.data, indices, matrix.indptr), shape))


def as_vectors(matrix: sparse.csr_array) -> pa.StructArray:
    """Return the rows of a matrix as Spark's sparse vectors, shape (n,)."""
    ends = pa.array(matrix.indptr.astype(np.int32))
    n_rows, n_columns = matrix.shape
    parts = [
        pa.array(np.full(n_rows, _SPARSE, np.int8)),
        pa.array(np.full(n_rows, n_columns, np.int32)),
        pa.ListArray.from_arrays(ends, pa.array(matrix.indices.astype(np.int32))),
        pa.ListArray.from_arrays(ends, pa.array(matrix.data)),
    ]
    return pa.StructArray.from_arrays(parts, fields=list(_VECTOR))


def as_matrix(vectors: pa.StructArray, n_columns: int) -> sparse.csr_array:
    """Return Spark's sparse vectors as the rows of a matrix, shape (n, n_columns)."""
    indices, values = vectors.field("indices"), vectors.field("values")
    ends = np.concatenate([[0], np.cumsum(indices.value_lengths().to_numpy(zero_copy_only=False))])
    return sparse.csr_array(
        (values.flatten().to_numpy(), indices.flatten().to_numpy(), ends), (len(vectors), n_columns)
    )
