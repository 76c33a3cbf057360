"""Fit the TF-IDF features of an oversampled dataset, using only its distinct rows.

A balanced dataset repeats products, some of them dozens of times. This module counts the terms of each product once, and
multiplies the counts by the number of copies of the product. The resulting vocabulary and idf are the same, bit for bit, as if
the terms of all copies were counted, but this takes only a fraction of the time. If the copies were ignored, the vocabulary,
the idf and the model would be different.

The result consists of ordinary scikit-learn objects, so a prediction does not need this module.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from listeners.training.term_counts import count_terms

_Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TfidfBlock:
    """A block: the group of TF-IDF features that one vectorizer computes from one text column.

    In each row, the vectorizer scales the features of its block to length 1. So all blocks have equal weight.
    """

    name: str
    column: str
    vectorizer: TfidfVectorizer


def distinct_products(dataset: pa.Table) -> tuple[pa.Table, _Ints]:
    """Return each product of an oversampled dataset once, and how many copies of it the dataset holds.

    Args:
        dataset: shape (n, any), with an integer column `productid`; rows with the same productid are copies.

    Returns:
        The first row of each product, sorted by productid, and the number of rows of each product, shape (n_distinct,), int64.
    """
    _, first, copies = np.unique(dataset["productid"].to_numpy(), return_index=True, return_counts=True)
    return dataset.take(first), copies


def fit_features(
    texts: pd.DataFrame,
    multiplicities: _Ints,
    blocks: Sequence[TfidfBlock],
) -> tuple[FeatureUnion, sparse.csr_array]:
    """Fit each block's vectorizer on the text column of the block, and join the features of all blocks side by side.

    Args:
        texts: distinct rows with the columns of the blocks, shape (n, any), `str`, no nulls.
        multiplicities: number of copies of each row, shape (n,), int64, at least 1.
        blocks: at least one block; the vectorizers are not fitted yet, and are fitted in place.

    Returns:
        (the blocks as one fitted transformer, the features of `texts`, shape (n, n_features), float64).
    """
    matrices = [fit_tfidf(block.vectorizer, texts[block.column].tolist(), multiplicities) for block in blocks]
    return join_blocks(blocks), sparse.hstack(matrices, format="csr")


def join_blocks(blocks: Sequence[TfidfBlock]) -> FeatureUnion:
    """Return the blocks, whose vectorizers are fitted, as one fitted transformer of a frame with their text columns."""
    return FeatureUnion([(block.name, _reader(block)) for block in blocks])


def _reader(block: TfidfBlock) -> Pipeline:
    return Pipeline(
        [("column", FunctionTransformer(operator.itemgetter(block.column))), ("tfidf", block.vectorizer)]
    )


def fit_tfidf(vectorizer: TfidfVectorizer, texts: Sequence[str], multiplicities: _Ints) -> sparse.csr_array:
    """Fit `vectorizer` in place, as its own `fit` would if each text were repeated as often as `multiplicities` says.

    Args:
        vectorizer: a vectorizer with an integer min_df, the default max_df and no fixed vocabulary. Its analyzer is 'char_wb', with any
            ngram_range, or 'word'. With 'word', the ngram_range is (1, 1) or (1, 2), and tokens consist of word characters.
        texts: shape (n,), without NUL characters, which numpy would drop at the end of a string (PostgreSQL stores none).
        multiplicities: number of copies of each text, shape (n,), int64, at least 1.

    Returns:
        The features of `texts`, as `vectorizer.transform(texts)` would return them: shape (n, n_features), float64.

    Raises:
        ValueError: the analyzer or ngram_range is not supported, a text holds a NUL character, or no term reaches min_df.
    """
    if any("\x00" in text for text in texts):
        raise ValueError("a text holds a NUL character (\\x00): remove it before fitting")
    counts = count_terms(vectorizer, texts)
    copies = np.repeat(multiplicities, np.diff(counts.matrix.indptr))
    document_frequency = np.bincount(counts.matrix.indices, copies, counts.matrix.shape[1])
    kept = np.flatnonzero(document_frequency >= vectorizer.min_df)
    limit = vectorizer.max_features
    if limit is not None and len(kept) > limit:
        term_frequency = np.bincount(
            counts.matrix.indices, copies * counts.matrix.data, counts.matrix.shape[1]
        )
        kept = kept[most_frequent(term_frequency[kept], limit)]
    set_terms(vectorizer, list(counts.terms(kept)), document_frequency[kept], int(multiplicities.sum()))
    return weigh(vectorizer, counts.matrix[:, kept])


def most_frequent(frequencies: npt.NDArray[Any], limit: int | None) -> npt.NDArray[np.intp]:
    """Return the positions of the `limit` highest frequencies, ascending, or all positions if there are not more.

    Args:
        frequencies: how often each term occurs in all copies, shape (n_terms,), float64, with the terms in string order.
        limit: the maximum number of terms; None for no limit.
    """
    if limit is None or len(frequencies) <= limit:
        return np.arange(len(frequencies))
    # CountVectorizer also sorts the term frequencies with argsort. So if several terms are equally frequent, and only some
    # of them fit into max_features, this line keeps the same terms as CountVectorizer.
    return np.sort(np.argsort(-frequencies)[:limit])


def set_terms(
    vectorizer: TfidfVectorizer,
    terms: Sequence[str],
    document_frequency: npt.NDArray[Any],
    copies: int,
) -> None:
    """Make `vectorizer` a fitted one, with these terms.

    Args:
        vectorizer: not fitted yet.
        terms: in string order.
        document_frequency: how many copies contain each term, shape (n_terms,).
        copies: number of all copies.

    Raises:
        ValueError: there is no term.
    """
    if not len(terms):
        raise ValueError(
            f"no term occurs in {vectorizer.min_df} documents or more: lower min_df or add texts"
        )
    # A TfidfVectorizer counts as fitted when it has a vocabulary and an idf. Set the vocabulary as an array of terms, not as a
    # dictionary, because skops would need 1 kB for each term of a dictionary. scikit-learn itself makes a dictionary from the
    # array: when `idf_` is set below, and again when a loaded model is first used.
    vectorizer.vocabulary = np.array(terms)
    vectorizer.idf_ = np.log((copies + 1) / (document_frequency + 1)) + 1


def weigh(vectorizer: TfidfVectorizer, counts: sparse.csr_array) -> sparse.csr_array:
    """Return the features of texts from how often they contain each term of a fitted vectorizer, both of shape (n, n_terms).

    The result may use the memory of `counts`.
    """
    transformer = TfidfTransformer(norm=vectorizer.norm, sublinear_tf=vectorizer.sublinear_tf)
    transformer.idf_ = vectorizer.idf_
    return transformer.transform(counts, copy=False)


class MergedFeatures(NamedTuple):
    """The result of `merge_equal_columns`: each group of equal columns is one column, so p columns have become m columns.

    Attributes:
        matrix: the merged features, shape (n, m), float64, m <= p.
        column: for each original column, the index of the merged column that replaces it, shape (p,), int64.
        scale: for each original column, 1 / sqrt(k) if k equal columns became one, shape (p,), float64. Multiply the merged
            column's coefficient by it to get the coefficient of the original column.
    """

    matrix: sparse.csr_array
    column: _Ints
    scale: npt.NDArray[np.float64]


def merge_equal_columns(features: sparse.csr_array) -> MergedFeatures:
    """Merge equal columns of the features, so that a linear model is fitted faster and stays the same model.

    The n-grams of a rare word often occur in the same rows, equally often, and then have equal columns. A linear model with an
    L2 penalty depends only on the inner products of rows. If g columns are equal to x, the single column sqrt(g) x gives the
    same inner products. A coefficient v of the single column stands for g coefficients v / sqrt(g) of the original columns; the
    sum of their squares, the L2 penalty, is the same.

    Args:
        features: shape (n, p), float64.
    """
    # Find equal columns by their projections onto two random directions, which is faster than comparing whole columns. Equal
    # columns have exactly equal projections, because the same numbers are added in the same order. If two columns differ by
    # more than rounding errors, it is practically impossible that both projections are equal.
    directions = np.random.default_rng(0).standard_normal((features.shape[0], 2))
    projections = (features.T @ directions).view(np.complex128).ravel()
    _, first, group, sizes = np.unique(
        projections, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    merged = features[:, first[order]]
    merged.data *= np.sqrt(sizes[order])[merged.indices]
    return MergedFeatures(merged, rank[group], 1 / np.sqrt(sizes[group]))
