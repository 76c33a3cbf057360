"""Fit the TF-IDF features of an oversampled dataset, using only its distinct rows.

A balanced dataset repeats products, some of them dozens of times. This module counts the terms of each product once, and
multiplies the counts by the number of copies of the product. The resulting vocabulary and idf are the same, bit for bit, as if
the terms of all copies were counted, but this takes only a fraction of the time. If the copies were ignored, the vocabulary,
the idf and the model would be different.

The result consists of ordinary scikit-learn objects, so a prediction does not need this module.
"""

import operator
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

_Ints: TypeAlias = npt.NDArray[np.int64]
_Ranks: TypeAlias = npt.NDArray[np.int32]


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
    union = FeatureUnion([(block.name, _reader(block)) for block in blocks])
    return union, sparse.hstack(matrices, format="csr")


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
    counts = _count(vectorizer, texts)
    copies = np.repeat(multiplicities, np.diff(counts.matrix.indptr))
    document_frequency = np.bincount(counts.matrix.indices, copies, counts.matrix.shape[1])
    kept = np.flatnonzero(document_frequency >= vectorizer.min_df)
    limit = vectorizer.max_features
    if limit is not None and len(kept) > limit:
        term_frequency = np.bincount(
            counts.matrix.indices, copies * counts.matrix.data, counts.matrix.shape[1]
        )
        # CountVectorizer also sorts the term frequencies with argsort. So if several terms are equally frequent, and only some
        # of them fit into max_features, this line keeps the same terms as CountVectorizer.
        kept = np.sort(kept[np.argsort(-term_frequency[kept])[:limit]])
    if not len(kept):
        raise ValueError(
            f"no term occurs in {vectorizer.min_df} documents or more: lower min_df or add texts"
        )

    transformer = TfidfTransformer(norm=vectorizer.norm, sublinear_tf=vectorizer.sublinear_tf)
    transformer.idf_ = np.log((multiplicities.sum() + 1) / (document_frequency[kept] + 1)) + 1
    # A TfidfVectorizer counts as fitted when it has a vocabulary and an idf. Set the vocabulary as an array of terms, not as a
    # dictionary, because skops would need 1 kB for each term of a dictionary. scikit-learn itself makes a dictionary from the
    # array: when `idf_` is set below, and again when a loaded model is first used.
    vectorizer.vocabulary = np.array(list(counts.terms(kept)))
    vectorizer.idf_ = transformer.idf_
    return transformer.transform(counts.matrix[:, kept], copy=False)


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


@dataclass(frozen=True)
class _Counts:
    """How often each term (a word, a pair of words or a character n-gram) occurs in each text.

    Attributes:
        matrix: the counts, shape (n_texts, n_terms), float64, with the terms in string order.
        terms: a function that takes indices of columns and returns the terms of these columns.
    """

    matrix: sparse.csr_array
    terms: Callable[[npt.NDArray[np.intp]], Iterable[str]]


@dataclass(frozen=True)
class _Tokens:
    """Texts that are split into tokens. A token is one occurrence of a word in a text.

    Attributes:
        words: the distinct words of all texts, in string order.
        ranks: for each token, the position of its word in `words`, shape (n_tokens,), int32, text after text.
        rows: for each token, the index of its text, shape (n_tokens,), int32.
        n_texts: number of texts, including texts without a token.
    """

    words: list[str]
    ranks: _Ranks
    rows: _Ranks
    n_texts: int


def _count(vectorizer: TfidfVectorizer, texts: Sequence[str]) -> _Counts:
    preprocess = vectorizer.build_preprocessor()
    match vectorizer.analyzer, vectorizer.ngram_range:
        case "word", (1, 1 | 2 as longest):
            tokenise_words = vectorizer.build_tokenizer()
            tokens = _tokenise(texts, lambda text: tokenise_words(preprocess(text)))
            return _count_words(tokens, longest)
        case "char_wb", ngram_range:
            tokens = _tokenise(texts, lambda text: preprocess(text).split())
            return _count_chars(tokens, ngram_range)
        case analyzer, ngram_range:
            raise ValueError(f"analyzer {analyzer!r} with ngram_range {ngram_range} is not supported")


def _tokenise(texts: Sequence[str], split: Callable[[str], list[str]]) -> _Tokens:
    """Split each text into words, and represent each word by its position in the sorted list of all distinct words."""
    code_of: defaultdict[str, int] = defaultdict()
    code_of.default_factory = code_of.__len__
    codes, lengths = array("i"), []
    for text in texts:
        tokens = split(text)
        codes.extend(map(code_of.__getitem__, tokens))
        lengths.append(len(tokens))
    words = sorted(code_of)
    rank_of_code = np.empty(len(words), np.int32)
    rank_of_code[[code_of[word] for word in words]] = np.arange(len(words), dtype=np.int32)
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    return _Tokens(words, rank_of_code[np.asarray(codes, np.int32)], rows, len(texts))


def _count_words(tokens: _Tokens, longest: int) -> _Counts:
    """Count words and, if `longest` is 2, pairs of adjacent words.

    Each term has an integer key, as sorting integers is faster than sorting strings. The word at position a of `tokens.words`
    has the key a * radix; this word followed by the word at position b has the key a * radix + 1 + b, where radix is the number
    of words plus 1. `tokens.words` is sorted, and the space between two words sorts before every word character. So the keys
    have the same order as the strings.
    """
    words, radix = tokens.words, len(tokens.words) + 1
    rows, ranks = tokens.rows, tokens.ranks.astype(np.int64)
    keys = ranks * radix
    if longest > 1:
        first = np.flatnonzero(rows[1:] == rows[:-1])
        keys = np.concatenate([keys, keys[first] + 1 + ranks[first + 1]])
        rows = np.concatenate([rows, rows[first]])
    # np.unique would sort all keys, with repetitions. pd.factorize finds the distinct keys with a hash table, and only these
    # are sorted: this takes a twentieth of the time of np.unique.
    codes, distinct = pd.factorize(keys)
    order = np.argsort(distinct)
    columns = np.empty(len(order), np.int32)
    columns[order] = np.arange(len(order), dtype=np.int32)
    distinct = distinct[order]

    def terms(kept: npt.NDArray[np.intp]) -> list[str]:
        pairs = zip(*(part.tolist() for part in np.divmod(distinct[kept], radix)), strict=True)
        return [f"{words[a]} {words[b - 1]}" if b else words[a] for a, b in pairs]

    return _Counts(_count_matrix(rows, columns[codes], (tokens.n_texts, len(distinct))), terms)


def _count_chars(tokens: _Tokens, ngram_range: tuple[int, int]) -> _Counts:
    """Count the character n-grams within words, as the analyzer 'char_wb' does. Split each distinct word only once."""
    shape = tokens.n_texts, len(tokens.words)
    if not tokens.words:
        return _Counts(sparse.csr_array(shape), lambda _: [])
    counter = CountVectorizer(analyzer="char_wb", ngram_range=ngram_range, lowercase=False, dtype=np.float64)
    ngrams = counter.fit_transform(tokens.words)
    matrix = sparse.csr_array(_count_matrix(tokens.rows, tokens.ranks, shape) @ ngrams)
    matrix.sort_indices()
    return _Counts(matrix, counter.get_feature_names_out().__getitem__)


def _count_matrix(rows: _Ranks, columns: _Ranks, shape: tuple[int, int]) -> sparse.csr_array:
    """Count how often each pair (rows[i], columns[i]) occurs. Return the counts as a sparse matrix, float64."""
    return sparse.csr_array(sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape))
