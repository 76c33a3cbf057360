"""Build and fit the model: groups (blocks) of TF-IDF features of title and description, and a linear SVM on these features.

A fitted model is a scikit-learn pipeline from the raw text columns to the product class code. The pipeline consists only of
library classes and functions, so the model loads wherever scikit-learn, pandas and skops are installed. The evidence for the
choice of blocks, classifier and hyperparameters is in `tests/benchmarks/model_comparison.py`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import LinearSVC

from listeners.training import calibration
from listeners.training.class_fits import EVERYTHING, Problem, fit_classes, suitable_processes
from listeners.training.features import (
    MergedFeatures,
    TfidfBlock,
    fit_features,
    merge_equal_columns,
)
from listeners.training.text import TEXT_COLUMNS, text_cleaner


@dataclass(frozen=True)
class Hyperparameters:
    """All choices that define the model, except the seed and the data.

    `svm_c` weighs the loss of one row against the penalty on the coefficients. It is right for the challenge's data, which have
    fewer than `svm_c_rows` rows after balancing. The loss is a sum over all rows. So beyond that number each row weighs less: then the
    problem does not become harder with more rows. On 1,043,145 generated rows, the fit of a class took 24 passes with 0.05 (weighted
    F1 0.805) and 39 with 0.1 (0.801).

    `svm_tol` is 0.1: with 0.01, the fits take twice as many passes over the rows, and 99.98 % of the predictions are equal.

    Words are in lower case. The character n-grams keep the case: on 4,000 real products (10 grouped folds), this raises weighted F1 by
    0.008, standard error 0.002. Characters of descriptions change it by 0.001 there, and raise macro F1 by 0.003. Among 38,000
    products of another shop they gained 0.004. Shorter and more lengths of n-grams are no better there, and take twice the time.

    `max_features` is the maximum number of terms in each TF-IDF block. It limits the size of the model, because each term takes
    216 bytes for its 27 coefficients (one for each class), and 4 bytes for each character of the longest term in its block.
    """

    svm_c: float = 0.2
    svm_c_rows: int = 300_000
    svm_loss: str = "squared_hinge"
    svm_tol: float = 0.1
    svm_max_iter: int = 1000
    min_df: int = 2
    max_features: int = 80_000
    sublinear_tf: bool = True
    title_char_ngram_min: int = 2
    title_char_ngram_max: int = 4
    description_char_ngram_min: int = 4
    description_char_ngram_max: int = 4

    def c_for(self, rows: int) -> float:
        """Return the weight of the loss of one row in a dataset with this many rows."""
        return self.svm_c * min(1.0, self.svm_c_rows / rows)

    def as_params(self) -> dict[str, str | int | float]:
        """Return the hyperparameters as a flat mapping for `mlflow.log_params`."""
        return asdict(self)


DEFAULTS: Final = Hyperparameters()


class Trained(NamedTuple):
    """A fitted model, and what models say that have not seen a training product.

    Attributes:
        pipeline: from a frame with the text columns to class codes (`predict`) and to probabilities (`predict_proba`).
        out_of_fold: the probabilities of each training product, shape (n, n_classes), by a model that was fitted without the
            product and without all products of nearly the same text.
    """

    pipeline: Pipeline
    out_of_fold: npt.NDArray[np.float64]


def fit(
    products: pd.DataFrame,
    labels: npt.NDArray[np.int64],
    multiplicities: npt.NDArray[np.int64],
    *,
    seed: int,
    folds: npt.NDArray[np.int64] | None = None,
    hyperparameters: Hyperparameters = DEFAULTS,
    processes: int | None = None,
) -> Trained:
    """Fit a model on distinct products, with the same features and objective as if all copies of the products were given.

    k copies of a row add k times the loss of one row to the objective, so one row with a sample weight of k replaces them.
    Equal arguments give equal coefficients, bit for bit, on one machine.

    Args:
        products: shape (n, any), with the text columns designation and description; nulls allowed.
        labels: prdtypecode of each row, shape (n,), int64, at least two classes.
        multiplicities: number of copies of each row, shape (n,), int64, at least 1.
        seed: seed of the order in which liblinear visits the rows.
        folds: fold of each row, shape (n,), int64; None for the folds of `calibration.text_folds`.
        hyperparameters: see `Hyperparameters`.
        processes: number of processes that fit the classifier; None for as many as cores and memory allow. It changes no result.

    Returns:
        The fitted pipeline, with the out-of-fold probabilities of `products`. Its `predict` takes a DataFrame like `products` and
        returns prdtypecode, shape (n,), int64.

    Raises:
        ValueError: the arrays differ in length, there are fewer than two classes, or no term is frequent enough.
    """
    if not len(products) == len(labels) == len(multiplicities):
        raise ValueError(
            f"{len(products)} products need as many labels (got {len(labels)}) and multiplicities (got {len(multiplicities)})"
        )
    if len(np.unique(labels)) < 2:  # noqa: PLR2004
        raise ValueError("the products have fewer than two classes")
    union, features = vectorise(products, multiplicities, hyperparameters=hyperparameters)
    merged = merge_equal_columns(features)
    # `features` takes as much memory as all other data of the fit. It is no longer needed: `merged.matrix` replaces it.
    del features
    folds = calibration.text_folds(products, seed=seed) if folds is None else folds
    options = linear_svc(seed, hyperparameters, rows=int(multiplicities.sum())).get_params()
    problem = Problem(merged.matrix, labels, multiplicities, folds, options)
    classifiers = fit_classes(problem, processes=processes or suitable_processes(merged.matrix))
    scores = calibration.out_of_fold_scores(
        merged,
        block_sizes(union),
        folds,
        labels,
        multiplicities,
        classifiers=classifiers,
        min_df=hyperparameters.min_df,
    )
    calibrated = calibration.calibrate(unmerged(classifiers[EVERYTHING], merged), scores, labels)
    return Trained(assemble(union, calibrated), calibration.probabilities(calibrated, scores))


def vectorise(
    products: pd.DataFrame,
    multiplicities: npt.NDArray[np.int64],
    *,
    hyperparameters: Hyperparameters = DEFAULTS,
) -> tuple[FeatureUnion, sparse.csr_array]:
    """Clean the texts of products and compute their TF-IDF features, as the first step of `fit`; see `fit` for the arguments.

    Returns:
        (the fitted transformer from clean texts to features, the features, shape (n, n_features), float64).
    """
    return fit_features(text_cleaner().transform(products), multiplicities, tfidf_blocks(hyperparameters))


def unmerged(classifier: LinearSVC, features: MergedFeatures) -> LinearSVC:
    """Return a classifier on merged columns as one on the original columns, so that predictions need not merge columns."""
    # In Fortran order, because a prediction multiplies the features by the transposed coefficients, and scipy copies what is not in C
    # order: 22 of 35 ms for one product.
    classifier.coef_ = np.asfortranarray(classifier.coef_[:, features.column] * features.scale)
    classifier.n_features_in_ = len(features.column)
    return classifier


def linear_svc(seed: int, hyperparameters: Hyperparameters = DEFAULTS, *, rows: int = 1) -> LinearSVC:
    """Return a linear support vector classifier for a dataset with this many rows, not fitted yet."""
    return LinearSVC(
        C=hyperparameters.c_for(rows),
        loss=hyperparameters.svm_loss,
        tol=hyperparameters.svm_tol,
        max_iter=hyperparameters.svm_max_iter,
        random_state=seed,
    )


def block_sizes(union: FeatureUnion) -> list[int]:
    """Return the number of features of each block of a fitted transformer."""
    return [len(reader.named_steps["tfidf"].idf_) for _name, reader in union.transformer_list]


def assemble(union: FeatureUnion, classifier: LinearSVC | CalibratedClassifierCV) -> Pipeline:
    """Join the text cleaner, the fitted feature transformer and the fitted classifier into one scikit-learn pipeline."""
    return Pipeline([("clean", text_cleaner()), ("features", union), ("classifier", classifier)])


def parameters_sha256(classifier: Pipeline) -> str:
    """Return the SHA-256 of what a model has learned: terms, idf weights, class codes, coefficients, intercepts and temperature."""
    digest = hashlib.sha256()
    for _name, reader in classifier.named_steps["features"].transformer_list:
        vectorizer = reader.named_steps["tfidf"]
        digest.update(json.dumps(vectorizer.vocabulary.tolist()).encode())
        digest.update(np.ascontiguousarray(vectorizer.idf_).tobytes())
    calibrated = classifier.named_steps["classifier"]
    machine, inverse_temperature = calibration.parts(calibrated)
    for parameter in (machine.classes_, machine.coef_, machine.intercept_, np.array(inverse_temperature)):
        digest.update(np.ascontiguousarray(parameter).tobytes())
    return digest.hexdigest()


def tfidf_blocks(chosen: Hyperparameters = DEFAULTS) -> list[TfidfBlock]:
    """Return the groups of features of a model, not fitted yet: words and characters of titles and of descriptions."""
    common = {
        "min_df": chosen.min_df,
        "max_features": chosen.max_features,
        "sublinear_tf": chosen.sublinear_tf,
    }

    def words(name: str, column: str) -> TfidfBlock:
        return TfidfBlock(name, column, TfidfVectorizer(ngram_range=(1, 2), **common))

    def characters(name: str, column: str, shortest: int, longest: int) -> TfidfBlock:
        vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(shortest, longest), lowercase=False, **common
        )
        return TfidfBlock(name, column, vectorizer)

    title, description = TEXT_COLUMNS
    return [
        words("title_words", title),
        characters("title_chars", title, chosen.title_char_ngram_min, chosen.title_char_ngram_max),
        words("description_words", description),
        characters(
            "description_chars",
            description,
            chosen.description_char_ngram_min,
            chosen.description_char_ngram_max,
        ),
    ]
