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
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

_Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
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
    texts: pd.DataFrame, multiplicities: _Ints, blocks: Sequence[Block]
) -> tuple[FeatureUnion, sparse.csr_array]:
    """Fit each block on its column and lay the blocks side by side.

    Args:
        texts: distinct rows, cleaned, shape (n, any), `str`, no nulls.
        multiplicities: copies of each row, shape (n,), int64, at least 1.
        blocks: at least one, with unfitted vectorizers, which are fitted in place.

    Returns:
        The fitted union, and its features of `texts`, shape (n, n_features), float64.
    """
    matrices = [fit_tfidf(block.vectorizer, texts[block.column].tolist(), multiplicities) for block in blocks]
    union = FeatureUnion([(block.name, _reader(block)) for block in blocks])
    return union, sparse.hstack(matrices, format="csr")


def _reader(block: Block) -> Pipeline:
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
        What `vectorizer.transform(texts)` would: shape (n, n_features), float64.

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
    """Tokenised texts as integers: the distinct words in string order, and the rank and the row of every token."""

    words: list[str]
    ranks: _Ints
    rows: _Ints
    n_rows: int


def _count(vectorizer: TfidfVectorizer, texts: Sequence[str]) -> _Counts:
    cleaned = map(vectorizer.build_preprocessor(), texts)
    match vectorizer.analyzer, vectorizer.ngram_range:
        case "word", (1, 1 | 2 as longest):
            return _count_words(_encode(map(vectorizer.build_tokenizer(), cleaned)), longest)
        case "char_wb", ngram_range:
            return _count_chars(_encode(map(str.split, cleaned)), ngram_range)
        case analyzer, ngram_range:
            raise ValueError(f"analyzer {analyzer!r} with ngram_range {ngram_range} is not supported")


def _encode(documents: Iterable[list[str]]) -> _Tokens:
    code_of: defaultdict[str, int] = defaultdict()
    code_of.default_factory = code_of.__len__
    codes, lengths = array("q"), array("q")
    for document in documents:
        codes.extend(map(code_of.__getitem__, document))
        lengths.append(len(document))
    words = sorted(code_of)
    rank_of_code = np.empty(len(words), np.int64)
    rank_of_code[[code_of[word] for word in words]] = np.arange(len(words))
    rows = np.repeat(np.arange(len(lengths)), np.asarray(lengths))
    return _Tokens(words, rank_of_code[np.asarray(codes)], rows, len(lengths))


def _count_words(tokens: _Tokens, longest: int) -> _Counts:
    """Count words and, if `longest` is 2, pairs of neighbours.

    The word of rank a has the key a * radix, the pair (a, b) a * radix + 1 + b. Keys sort as the strings do, because the
    space between two words sorts before every word character.
    """
    words, rows, radix = tokens.words, tokens.rows, len(tokens.words) + 1
    keys = tokens.ranks * radix
    if longest > 1:
        first = np.flatnonzero(rows[1:] == rows[:-1])
        keys = np.concatenate([keys, keys[first] + 1 + tokens.ranks[first + 1]])
        rows = np.concatenate([rows, rows[first]])
    distinct, columns = np.unique(keys, return_inverse=True)

    def terms(kept: npt.NDArray[np.intp]) -> list[str]:
        pairs = zip(*(part.tolist() for part in np.divmod(distinct[kept], radix)), strict=True)
        return [f"{words[a]} {words[b - 1]}" if b else words[a] for a, b in pairs]

    return _Counts(_incidence(rows, columns, (tokens.n_rows, len(distinct))), terms)


def _count_chars(tokens: _Tokens, ngram_range: tuple[int, int]) -> _Counts:
    """Count 'char_wb' n-grams: they never cross a word, so each distinct word is spelled once."""
    if not tokens.words:
        return _Counts(sparse.csr_array((tokens.n_rows, 0)), lambda _: [])
    speller = CountVectorizer(analyzer="char_wb", ngram_range=ngram_range, lowercase=False, dtype=np.float64)
    spellings = speller.fit_transform(tokens.words)
    words = _incidence(tokens.rows, tokens.ranks, (tokens.n_rows, len(tokens.words)))
    matrix = sparse.csr_array(words @ spellings)
    matrix.sort_indices()
    return _Counts(matrix, speller.get_feature_names_out().__getitem__)


def _incidence(rows: _Ints, columns: _Ints, shape: tuple[int, int]) -> sparse.csr_array:
    """The counts of (row, column) pairs, in canonical format, float64."""
    return sparse.csr_array(sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape))
