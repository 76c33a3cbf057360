"""Turn the scores of a classifier into probabilities, without changing its predictions.

The probabilities of a product are the softmax of its scores, each divided by one number, the temperature (Guo et al. 2017, "On
Calibration of Modern Neural Networks"). A classifier gives the products that it was fitted on too high scores. So the temperature is
fitted to scores of classifiers that have not seen the product, its copies or products with nearly the same text: the training
products are divided into folds, and each fold gets its scores from a classifier that was fitted on the other folds.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from db.source.text_group import text_groups
from listeners.training.features import MergedFeatures
from listeners.training.text import TEXT_COLUMNS

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

LinearClassifier: TypeAlias = LinearSVC | LogisticRegression

# On 3,598 real products, the temperature of 5 folds is within 1 % of that of 10 folds, and that of 3 folds within 4 %. The fits of 5
# folds take twice as long as those of 3.
FOLDS: Final = 3
# What a linear SVM learns to give a class that a product does not belong to. It stands in for the score of a class of which no
# product is in the other folds.
_SCORE_OF_UNKNOWN_CLASS: Final = -1.0


def assign_folds(groups: Sequence[str], *, seed: int) -> _Ints:
    """Return the fold of each product, from 0 to FOLDS - 1, shape (n,), int64.

    Args:
        groups: the simplified text of each product (`db.source.text_group`). Products with an equal one get the same fold, because
            a classifier that has seen one of them has nearly seen the others.
        seed: another seed gives other folds. The order of the products has no influence.
    """
    fold_of = {
        group: int.from_bytes(hashlib.sha256(f"{seed} {group}".encode()).digest()[:8]) % FOLDS
        for group in set(groups)
    }
    return np.array([fold_of[group] for group in groups], np.int64)


def text_folds(products: pd.DataFrame, *, seed: int) -> _Ints:
    """Return the fold of each product, so that products of nearly the same text are in the same fold, shape (n,), int64."""
    texts = ([text if isinstance(text, str) else None for text in products[name]] for name in TEXT_COLUMNS)
    return assign_folds(text_groups(*texts), seed=seed)


def out_of_fold_scores(
    features: MergedFeatures,
    block_sizes: Sequence[int],
    folds: _Ints,
    labels: _Ints,
    multiplicities: _Ints,
    *,
    classifiers: Mapping[int, LinearSVC],
    min_df: int,
) -> _Floats:
    """Return the scores of each product by a classifier that was fitted without the product's fold.

    The features were computed from all products. An oversampled product has many copies, so even terms that only it has are in
    the vocabulary. A new product has no such terms. If they stayed, the scores of a fold would be lower than those of new products, and
    the probabilities too high: on 3,598 real products, 0.81 on average where 0.76 of the predictions were right. So the terms
    that are too rare without the fold are taken away from the fold's products, and each block is scaled to length 1 again.

    Args:
        features: the merged features of all products, n rows.
        block_sizes: number of features of each block, before equal columns were merged.
        folds: the fold of each product, shape (n,).
        labels: prdtypecode of each product, shape (n,), int64.
        multiplicities: number of copies of each product, shape (n,), int64.
        classifiers: for each fold, the classifier that was fitted without it; none if fewer than two classes are left without it.
        min_df: number of copies that must contain a term.

    Returns:
        The scores, shape (n, n_classes). A class of which no product is outside of the fold gets -1.
    """
    classes = np.unique(labels)
    shares = _block_shares(features, block_sizes)
    lengths = np.diff(features.matrix.indptr)
    scores = np.full((len(labels), len(classes)), _SCORE_OF_UNKNOWN_CLASS)
    for fold in np.unique(folds).tolist():
        if fold not in classifiers:  # all classes are equally likely
            continue
        in_fold = folds == fold
        copies = np.repeat(np.where(in_fold, 0, multiplicities), lengths)
        kept = np.bincount(features.matrix.indices, copies, features.matrix.shape[1]) >= min_df
        found = block_scores(classifiers[fold], features.matrix[in_fold], shares * kept)
        scores[np.ix_(in_fold, np.searchsorted(classes, classifiers[fold].classes_))] = found
    return scores


def block_scores(classifier: LinearClassifier, rows: sparse.csr_array, shares: _Floats) -> _Floats:
    """Return the scores of rows whose blocks are scaled to length 1 again, shape (n, n_classes).

    Args:
        classifier: fitted.
        rows: features, shape (n, n_columns).
        shares: which share of each column belongs to each block, shape (n_blocks, n_columns). Columns with only zeros are taken away.
    """
    squares = rows.power(2)
    scores: _Floats = np.tile(classifier.intercept_, (rows.shape[0], 1))
    for share in shares:
        length = np.sqrt(squares @ share)
        length[length == 0] = 1.0  # no term of this block is left
        scores += (rows @ (classifier.coef_ * share).T) / length[:, None]
    return np.hstack([-scores, scores]) if scores.shape[1] == 1 else scores


def _block_shares(features: MergedFeatures, block_sizes: Sequence[int]) -> _Floats:
    """Return which share of each merged column comes from each block of features, shape (n_blocks, n_merged_columns).

    If k equal columns became one and j of them are in a block, the block's share is j / k. The squares of these j columns add up
    to this share of the square of the merged column, and so do their products with the coefficients.
    """
    n_merged = features.matrix.shape[1]
    ends = np.cumsum(block_sizes)[:-1]
    counts = [np.bincount(part, minlength=n_merged) for part in np.split(features.column, ends)]
    shares: _Floats = np.array(counts) / np.sum(counts, axis=0)
    return shares


def calibrate(classifier: LinearClassifier, scores: _Floats, labels: _Ints) -> CalibratedClassifierCV:
    """Return a classifier with the predictions of `classifier` and a method `predict_proba`.

    Args:
        classifier: fitted on all training products, n_classes classes.
        scores: out-of-fold scores of the training products, shape (n, n_classes).
        labels: the classes of these products, shape (n,), int64.
    """
    classes = classifier.classes_
    if len(classes) == 2:  # noqa: PLR2004  scikit-learn has one score for two classes
        scores = (scores[:, 1:] - scores[:, :1]) / 2
    rows = np.arange(len(labels))
    # scikit-learn 1.9 takes the labels for positions of classes unless they are strings, so it gets the positions.
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(_identity(scores.shape[1], len(classes))), method="temperature", cv=[(rows, rows)]
    ).fit(scores, np.searchsorted(classes, labels))
    [fitted] = calibrated.calibrated_classifiers_
    calibrated.estimator = fitted.estimator = FrozenEstimator(classifier)
    calibrated.classes_ = fitted.classes = classes
    calibrated.n_features_in_ = classifier.n_features_in_
    calibrated.cv = None  # two arrays as long as the training data, which nobody needs
    return calibrated


def with_temperature(classifier: LinearClassifier, inverse_temperature: float) -> CalibratedClassifierCV:
    """Return what `calibrate` returns for scores whose temperature is known."""
    classes = classifier.classes_
    # Three rows of each class: if each class had one, scikit-learn would warn that these are no classes.
    calibrated = calibrate(classifier, np.tile(np.eye(len(classes)), (3, 1)), np.tile(classes, 3))
    [scaling] = calibrated.calibrated_classifiers_[0].calibrators
    scaling.beta_ = type(scaling.beta_)(inverse_temperature)
    return calibrated


def parts(calibrated: CalibratedClassifierCV) -> tuple[LinearClassifier, float]:
    """Return the linear classifier inside a calibrated one, and the inverse of the temperature."""
    [fitted] = calibrated.calibrated_classifiers_
    [scaling] = fitted.calibrators
    return fitted.estimator.estimator, float(scaling.beta_)


def probabilities(calibrated: CalibratedClassifierCV, scores: _Floats) -> _Floats:
    """Return the probabilities that belong to scores, both of the shape (n, n_classes)."""
    _classifier, inverse_temperature = parts(calibrated)
    result: _Floats = softmax(inverse_temperature * scores, axis=1)
    return result


def _identity(n_scores: int, n_classes: int) -> LinearSVC:
    """Return a classifier whose scores are its input."""
    identity = LinearSVC()
    identity.classes_ = np.arange(n_classes)
    identity.coef_, identity.intercept_ = np.eye(n_scores), np.zeros(n_scores)
    identity.n_features_in_ = n_scores
    return identity
