"""Count the terms of texts as scikit-learn's vectorizers do, but much faster: each distinct word is taken apart only once."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

_Ranks: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Counts:
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


def count_terms(vectorizer: TfidfVectorizer, texts: Sequence[str]) -> Counts:
    """Count the terms of texts as `fit_tfidf` does; see there for the arguments."""
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


def _count_words(tokens: _Tokens, longest: int) -> Counts:
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

    return Counts(_count_matrix(rows, columns[codes], (tokens.n_texts, len(distinct))), terms)


def _count_chars(tokens: _Tokens, ngram_range: tuple[int, int]) -> Counts:
    """Count the character n-grams within words, as the analyzer 'char_wb' does. Split each distinct word only once."""
    shape = tokens.n_texts, len(tokens.words)
    if not tokens.words:
        return Counts(sparse.csr_array(shape), lambda _: [])
    counter = CountVectorizer(analyzer="char_wb", ngram_range=ngram_range, lowercase=False, dtype=np.float64)
    ngrams = counter.fit_transform(tokens.words)
    matrix = sparse.csr_array(_count_matrix(tokens.rows, tokens.ranks, shape) @ ngrams)
    matrix.sort_indices()
    return Counts(matrix, counter.get_feature_names_out().__getitem__)


def _count_matrix(rows: _Ranks, columns: _Ranks, shape: tuple[int, int]) -> sparse.csr_array:
    """Count how often each pair (rows[i], columns[i]) occurs. Return the counts as a sparse matrix, float64."""
    return sparse.csr_array(sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape))
