"""Compute the metrics of a classifier on the holdout, with confidence intervals."""

from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score

from shared.categories import category_name

Codes: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE: Final = 0.95


def evaluate(y_true: Codes, y_pred: Codes, *, seed: int, n_resamples: int = 1000) -> dict[str, float]:
    """Return the metrics of a classifier, with confidence intervals, for MLflow.

    The intervals are percentiles of a bootstrap over rows (Efron & Tibshirani 1993, chapter 13). Every metric is a function of
    the confusion matrix. So a resample of n rows is drawn as a new confusion matrix: one multinomial draw with n trials over
    the cells.

    Args:
        y_true: prdtypecode of each row, shape (n,), int64, n > 0.
        y_pred: predicted prdtypecode of each row, shape (n,), int64.
        seed: seed of the bootstrap.
        n_resamples: number of bootstrap resamples.

    Returns:
        `accuracy`, `f1_score`, `precision`, `recall` (the last three weighted by support) and `f1_macro`; `f1_weighted`, which is
        `f1_score` under the name that says what it is; for each of the first five,
        the ends of its 95 % interval, such as `accuracy_ci_low` and `accuracy_ci_high`; and `f1_class_{code}` for every code in
        `y_true` or `y_pred`. As in scikit-learn, `f1_macro` is the mean over these codes, and 0 / 0 counts as 0.
    """
    codes = np.union1d(y_true, y_pred)
    confusion = confusion_counts(y_true, y_pred, codes).astype(np.float64)
    metrics = overall_scores(y_true, y_pred)
    low, high = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    for name, values in _overall(_resample(confusion, seed, n_resamples)).items():
        metrics[f"{name}_ci_low"], metrics[f"{name}_ci_high"] = np.quantile(values, [low, high]).tolist()
    _, _, f1, _ = _per_class(confusion)
    return (
        metrics
        | {"f1_weighted": metrics["f1_score"]}
        | {f"f1_class_{code}": value for code, value in zip(codes.tolist(), f1.tolist(), strict=True)}
    )


def overall_scores(y_true: Codes, y_pred: Codes) -> dict[str, float]:
    """Return accuracy, f1_score, precision, recall and f1_macro, from scikit-learn, so that anybody can reproduce them."""
    weighted = {"average": "weighted", "zero_division": 0.0}
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "f1_score": float(f1_score(y_true, y_pred, **weighted)),
        "precision": float(precision_score(y_true, y_pred, **weighted)),
        "recall": float(recall_score(y_true, y_pred, **weighted)),
        "f1_macro": float(f1_score(y_true, y_pred, average="macro", zero_division=0.0)),
    }


def confusion_counts(y_true: Codes, y_pred: Codes, codes: Codes) -> Codes:
    """Return the confusion matrix, shape (K, K): the number of rows for each true code (row) and predicted code (column).

    `codes` are all K codes that occur in `y_true` or `y_pred`, in ascending order.
    """
    cells = np.searchsorted(codes, y_true) * len(codes) + np.searchsorted(codes, y_pred)
    return np.bincount(cells, minlength=len(codes) ** 2).reshape(len(codes), len(codes))


def report(y_true: Codes, y_pred: Codes) -> str:
    """Return scikit-learn's classification report as text, with the code and name of each class. A metric of 0 / 0 is 0."""
    codes = np.union1d(y_true, y_pred).tolist()
    names = [f"{code} {category_name(code)}" for code in codes]
    text: str = classification_report(
        y_true, y_pred, labels=codes, target_names=names, digits=3, zero_division=0.0
    )
    return text


def _resample(confusion: _Floats, seed: int, n_resamples: int) -> _Floats:
    n_rows = int(confusion.sum())
    draws = np.random.default_rng(seed).multinomial(n_rows, confusion.ravel() / n_rows, size=n_resamples)
    return draws.reshape(n_resamples, *confusion.shape).astype(np.float64)


def _per_class(confusion: _Floats) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """Return (precision, recall, F1, support) of each of the K classes, for one or more confusion matrices.

    `confusion` has the shape (..., K, K), and each returned array has the shape (..., K).
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    return (
        _ratio(hits, predicted),
        _ratio(hits, support),
        _ratio(2 * hits, support + predicted),
        support,
    )


def _overall(confusion: _Floats) -> Mapping[str, _Floats]:
    """Return accuracy, f1_score, precision, recall and f1_macro of every confusion matrix in `confusion`.

    `confusion` has the shape (..., K, K): its last two axes are one confusion matrix of K classes. Each returned metric has the
    shape (...), one value for each matrix.
    """
    precision, recall, f1, support = _per_class(confusion)
    n_rows = support.sum(axis=-1)
    occurs = support + confusion.sum(axis=-2) > 0
    return {
        "accuracy": np.trace(confusion, axis1=-2, axis2=-1) / n_rows,
        "f1_score": (f1 * support).sum(axis=-1) / n_rows,
        "precision": (precision * support).sum(axis=-1) / n_rows,
        "recall": (recall * support).sum(axis=-1) / n_rows,
        "f1_macro": f1.sum(axis=-1) / occurs.sum(axis=-1),
    }


def _ratio(numerator: _Floats, denominator: _Floats) -> _Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
