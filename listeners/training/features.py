"""TF-IDF of an oversampled corpus, fitted on its distinct rows.

A balanced dataset repeats each product up to dozens of times. Counting every distinct text once and weighting the
document frequencies by the copies gives the same vocabulary and the same idf, bit for bit, in a fraction of the time.
Fitting on the distinct rows without the weights would be a different model.

The result is made of ordinary scikit-learn objects, so nothing here is needed to predict.
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
    """One TF-IDF block: which column it reads and how. Blocks have unit norm each, and so equal weight."""

    name: str
    column: str
    vectorizer: TfidfVectorizer


def distinct_products(dataset: pa.Table) -> tuple[pa.Table, _Ints]:
    """The distinct rows of an oversampled dataset, and how many copies of each it holds.

    Args:
        dataset: shape (n, any), with an integer column `productid`; rows of equal productid are copies.

    Returns:
        The first row of each product in the order of productid, whatever the order in `dataset`, and the number of its
        copies, shape (n_distinct,), int64.
    """
    _, first, copies = np.unique(dataset["productid"].to_numpy(), return_index=True, return_counts=True)
    return dataset.take(first), copies


def fit_features(
    texts: pd.DataFrame,
    multiplicities: _Ints,
    blocks: Sequence[TfidfBlock],
) -> tuple[FeatureUnion, sparse.csr_array]:
    """Fit each block on its column and lay the blocks side by side.

    Args:
        texts: distinct rows, shape (n, any), `str`, no nulls.
        multiplicities: copies of each row, shape (n,), int64, at least 1.
        blocks: at least one, with unfitted vectorizers, which are fitted in place.

    Returns:
        The fitted union, and its features of `texts`, shape (n, n_features), float64.
    """
    matrices = [fit_tfidf(block.vectorizer, texts[block.column].tolist(), multiplicities) for block in blocks]
    union = FeatureUnion([(block.name, _reader(block)) for block in blocks])
    return union, sparse.hstack(matrices, format="csr")


def _reader(block: TfidfBlock) -> Pipeline:
    return Pipeline(
        [("column", FunctionTransformer(operator.itemgetter(block.column))), ("tfidf", block.vectorizer)]
    )


def fit_tfidf(vectorizer: TfidfVectorizer, texts: Sequence[str], multiplicities: _Ints) -> sparse.csr_array:
    """Fit `vectorizer` in place, as its own `fit` would on every text repeated by its multiplicity.

    Args:
        vectorizer: analyzer 'word' with ngram_range (1, 1) or (1, 2) and tokens of word characters, or analyzer
            'char_wb'; an integer min_df, the default max_df and no fixed vocabulary.
        texts: shape (n,), without NUL characters, which PostgreSQL refuses and numpy's strings lose.
        multiplicities: shape (n,), int64, at least 1.

    Returns:
        What `vectorizer.transform` would of the texts: shape (n, n_features), float64.

    Raises:
        ValueError: another analyzer or ngram_range, a NUL character, or no term is left.
    """
    if any("\x00" in text for text in texts):
        raise ValueError("a text holds a NUL character")
    counts = _count(vectorizer, texts)
    copies = np.repeat(multiplicities, np.diff(counts.matrix.indptr))
    document_frequency = np.bincount(counts.matrix.indices, copies, counts.matrix.shape[1])
    kept = np.flatnonzero(document_frequency >= vectorizer.min_df)
    limit = vectorizer.max_features
    if limit is not None and len(kept) > limit:
        term_frequency = np.bincount(
            counts.matrix.indices, copies * counts.matrix.data, counts.matrix.shape[1]
        )
        # The sort that CountVectorizer uses, on the same numbers: ties at the limit fall alike.
        kept = np.sort(kept[np.argsort(-term_frequency[kept])[:limit]])
    if not len(kept):
        raise ValueError(
            f"no term occurs in {vectorizer.min_df} documents or more: lower min_df or add texts"
        )

    transformer = TfidfTransformer(norm=vectorizer.norm, sublinear_tf=vectorizer.sublinear_tf)
    transformer.idf_ = np.log((multiplicities.sum() + 1) / (document_frequency[kept] + 1)) + 1
    # A fitted TfidfVectorizer is its vocabulary and its idf. The terms go into an array, which skops writes as one file
    # where a dictionary would cost it 1 kB a term; the dictionary is built from it on first use, and now.
    vectorizer.vocabulary = np.array(list(counts.terms(kept)))
    vectorizer.idf_ = transformer.idf_
    return transformer.transform(counts.matrix[:, kept], copy=False)


class MergedFeatures(NamedTuple):
    """Features of n rows with one column in place of each set of equal ones.

    Attributes:
        matrix: shape (n, m), float64, m <= p.
        column: which of the m stands for each of the p columns there were, shape (p,), int64.
        scale: what its coefficient is multiplied by to have that column's, shape (p,), float64.
    """

    matrix: sparse.csr_array
    column: _Ints
    scale: npt.NDArray[np.float64]


def merge_equal_columns(features: sparse.csr_array) -> MergedFeatures:
    """Make the problem of a linear model smaller, and leave it the same.

    The n-grams of a rare word occur in the same rows, equally often, and so have equal columns. With g equal columns x the
    inner products of rows, which are all that a linear model with an L2 penalty sees of its features, are those with the one
    column sqrt(g) x; its coefficient v stands for g coefficients v / sqrt(g), whose squares have the same sum.

    Args:
        features: shape (n, p), float64.
    """
    # Equal columns have equal projections, added up in the same order. Columns that are not equal share both projections
    # only if they differ by rounding, if at all.
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


def drop_lookups(union: FeatureUnion) -> None:
    """Forget the dictionaries that vectorizers build from their terms, so that serialising the union is cheap."""
    for _name, reader in union.transformer_list:
        vars(reader.named_steps["tfidf"]).pop("vocabulary_", None)


@dataclass(frozen=True)
class _Counts:
    """How often each text has each term: (n_texts, n_terms), float64, terms in string order, named on demand."""

    matrix: sparse.csr_array
    terms: Callable[[npt.NDArray[np.intp]], Iterable[str]]


@dataclass(frozen=True)
class _Tokens:
    """Tokenised texts.

    Attributes:
        words: the distinct words, in string order.
        ranks: position in `words` of every token, text after text, shape (n_tokens,), int32.
        rows: number of the text that each token is from, shape (n_tokens,), int32.
        n_texts: number of texts, those without a token included.
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
    """Split each text and rank its words."""
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
    """Count words and, if `longest` is 2, pairs of neighbours.

    The word of rank a has the key a * radix, the pair (a, b) a * radix + 1 + b. Keys sort as the strings do, because the
    space between two words sorts before every word character.
    """
    words, radix = tokens.words, len(tokens.words) + 1
    rows, ranks = tokens.rows, tokens.ranks.astype(np.int64)
    keys = ranks * radix
    if longest > 1:
        first = np.flatnonzero(rows[1:] == rows[:-1])
        keys = np.concatenate([keys, keys[first] + 1 + ranks[first + 1]])
        rows = np.concatenate([rows, rows[first]])
    # np.unique would sort all keys, where a hash table leaves the distinct ones to sort: a twentieth of its time
    codes, distinct = pd.factorize(keys)
    order = np.argsort(distinct)
    columns = np.empty(len(order), np.int32)
    columns[order] = np.arange(len(order), dtype=np.int32)
    distinct = distinct[order]

    def terms(kept: npt.NDArray[np.intp]) -> list[str]:
        pairs = zip(*(part.tolist() for part in np.divmod(distinct[kept], radix)), strict=True)
        return [f"{words[a]} {words[b - 1]}" if b else words[a] for a, b in pairs]

    return _Counts(_incidence(rows, columns[codes], (tokens.n_texts, len(distinct))), terms)


def _count_chars(tokens: _Tokens, ngram_range: tuple[int, int]) -> _Counts:
    """Count 'char_wb' n-grams: they never cross a word, so each distinct word is spelled once."""
    shape = tokens.n_texts, len(tokens.words)
    if not tokens.words:
        return _Counts(sparse.csr_array(shape), lambda _: [])
    speller = CountVectorizer(analyzer="char_wb", ngram_range=ngram_range, lowercase=False, dtype=np.float64)
    spellings = speller.fit_transform(tokens.words)
    matrix = sparse.csr_array(_incidence(tokens.rows, tokens.ranks, shape) @ spellings)
    matrix.sort_indices()
    return _Counts(matrix, speller.get_feature_names_out().__getitem__)


def _incidence(rows: _Ranks, columns: _Ranks, shape: tuple[int, int]) -> sparse.csr_array:
    """The counts of (row, column) pairs, in canonical format, float64."""
    return sparse.csr_array(sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape))
