"""Compute the probabilities of a model of ours without scikit-learn's checks between its steps.

For one product, nine tenths of the time of the pipeline's own `predict_proba` are checks and conversions of what one step hands to the
next. Here the model's own functions, vocabularies and numbers are used directly and in the same order, so the probabilities are the
same, bit for bit.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import accumulate, chain, repeat
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.utils.extmath import softmax
from sklearn.utils.sparsefuncs_fast import inplace_csr_row_normalize_l2

from listeners.training import calibration
from listeners.training.text import TEXT_COLUMNS, text_cleaner

Probabilities = Callable[[pd.DataFrame], npt.NDArray[np.float64]]

# The options of a vectorizer that `FastPath` assumes. All others only decide on the terms, and the vectorizer's own analyzer finds them.
_OPTIONS: Final = {"sublinear_tf": True, "norm": "l2", "use_idf": True, "binary": False, "dtype": np.float64}
# The options with which the terms of a text are those of its words, one by one.
_WORD_BY_WORD: Final = {
    "analyzer": "char_wb",
    "lowercase": False,
    "strip_accents": None,
    "preprocessor": None,
}
_WORDS_KEPT: Final = 20_000  # of each block; with their columns, they take some 10 MB
_LONGEST_WORD_KEPT: Final = 30
_UNKNOWN: Final = repeat(-1)  # the column of a term that is not in the vocabulary


def fast_probabilities(pipeline: Pipeline, examples: pd.DataFrame) -> Probabilities | None:
    """Return a function that computes what the pipeline's `predict_proba` computes, or None if the pipeline is not one of ours.

    Args:
        pipeline: fitted, with a method `predict_proba`. It is one of ours if it has the steps that `listeners.training.model` gives it, and
            if the function returns exactly the same probabilities for the examples.
        examples: shape (n, any), n > 0, with the text columns.
    """
    expected = pipeline.predict_proba(examples)  # the first call gives each vectorizer its dictionary
    match pipeline.steps:
        case [
            ("clean", Pipeline() as cleaner),
            ("features", FeatureUnion(transformer_weights=None) as union),
            (
                "classifier",
                CalibratedClassifierCV(
                    method="temperature",
                    estimator=FrozenEstimator(estimator=LinearSVC() | LogisticRegression()),
                ) as classifier,
            ),
        ] if _are_ours(cleaner, union) and expected.shape[1] > 2:  # noqa: PLR2004  two classes have one score
            found = FastPath(cleaner, union, classifier).predict_proba
            return found if np.array_equal(found(examples), expected) else None
    return None


def _are_ours(cleaner: Pipeline, union: FeatureUnion) -> bool:
    """Tell whether the cleaner has the steps of `text_cleaner`, and each part of the union is a column and a vectorizer."""
    return list(cleaner.named_steps) == list(text_cleaner().named_steps) and all(
        isinstance(reader, Pipeline)
        and [type(step) for _, step in reader.steps] == [FunctionTransformer, TfidfVectorizer]
        and reader[-1].get_params().items() >= _OPTIONS.items()
        for _, reader in union.transformer_list
    )


class _Block(NamedTuple):
    """A block of features: where its text comes from, and how to find the columns of the terms of a text, -1 for unknown terms."""

    column: Callable[[Mapping[str, list[str]]], list[str]]
    columns_of: Callable[[str], Iterable[int]]


def _block(column: FunctionTransformer, vectorizer: TfidfVectorizer) -> _Block:
    analyze, column_of = vectorizer.build_analyzer(), vectorizer.vocabulary_.get

    def columns_of(text: str) -> Iterable[int]:
        return map(column_of, analyze(text), _UNKNOWN)

    if not vectorizer.get_params().items() >= _WORD_BY_WORD.items():
        return _Block(column.func, columns_of)

    # Texts repeat words, and a word has a dozen n-grams.
    @lru_cache(_WORDS_KEPT)
    def columns_of_word(word: str) -> tuple[int, ...]:
        return tuple(columns_of(word))

    def columns_word_by_word(text: str) -> Iterable[int]:
        return chain.from_iterable(
            columns_of_word(word) if len(word) <= _LONGEST_WORD_KEPT else columns_of(word)
            for word in text.split()
        )

    return _Block(column.func, columns_word_by_word)


class FastPath:
    """The parts of a fitted pipeline of ours. It copies only the idf weights."""

    def __init__(self, cleaner: Pipeline, union: FeatureUnion, classifier: CalibratedClassifierCV) -> None:
        functions = (getattr(step, "func", None) for _, step in cleaner.steps)
        self._cleaning: list[Callable[[str], str]] = [
            function.pyfunc for function in functions if isinstance(function, np.vectorize)
        ]
        readers = [reader for _, reader in union.transformer_list]
        self._blocks = [_block(*(step for _, step in reader.steps)) for reader in readers]
        self._idf = np.concatenate([reader[-1].idf_ for reader in readers])
        self._first_columns = np.array(
            [0, *accumulate(len(reader[-1].idf_) for reader in readers)], np.int32
        )[:-1]
        machine, self._inverse_temperature = calibration.parts(classifier)
        self._coefficients, self._intercept = machine.coef_.T, machine.intercept_

    def predict_proba(self, products: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the probability of each class for each product, shape (n, n_classes).

        Args:
            products: shape (n, any), n > 0, with the text columns, which may hold None.
        """
        texts = {name: [self._cleaned(text) for text in products[name]] for name in TEXT_COLUMNS}
        scores = self._features(texts) @ self._coefficients + self._intercept
        probabilities: npt.NDArray[np.float64] = softmax(self._inverse_temperature * scores, copy=False)
        return probabilities

    def _cleaned(self, text: Any) -> str:
        cleaned = text if isinstance(text, str) else ""
        for function in self._cleaning:
            cleaned = function(cleaned)
        return cleaned

    def _features(self, texts: Mapping[str, list[str]]) -> sparse.csr_array:
        """Return the TF-IDF features of cleaned texts, shape (n, n_features)."""
        columns, ends = array("i"), [0]
        for product in zip(*(block.column(texts) for block in self._blocks), strict=True):
            for block, text in zip(self._blocks, product, strict=True):
                columns.extend(block.columns_of(text))
                ends.append(len(columns))
        # At first, each block of each product is a row, so that it gets the length 1. Then the blocks of a product become one row.
        n_blocks, n_features = len(self._blocks), len(self._idf)
        indices = np.asarray(columns, np.int32)
        known = indices >= 0
        known_before = np.concatenate([[0], np.cumsum(known)])[ends].astype(np.int32)
        first_columns = np.tile(self._first_columns, len(ends) // n_blocks)
        indices = indices[known] + np.repeat(first_columns, np.diff(known_before))
        rows = sparse.csr_array((np.ones(len(indices)), indices, known_before), (len(ends) - 1, n_features))
        rows.sum_duplicates()
        rows.data = (np.log(rows.data) + 1) * self._idf[rows.indices]
        inplace_csr_row_normalize_l2(rows)
        starts = rows.indptr[::n_blocks]
        return sparse.csr_array((rows.data, rows.indices, starts), (len(starts) - 1, n_features))
