"""Measure how far the probabilities of a model can be trusted, and from which probability on its predictions need no person.

The *confidence* of a prediction is the probability that the model gives to the predicted class. *Coverage* is the share of the products
whose confidence reaches a threshold, so that their predictions can be used without a look at them.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from listeners.training.evaluate import CONFIDENCE, Codes

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]

ACCURACY_TARGETS: Final = (0.90, 0.95, 0.97, 0.99)
_BINS: Final = 10
_TOP: Final = 3


def ranked(probabilities: _Floats, classes: Codes, n: int = _TOP) -> tuple[Codes, _Floats]:
    """Return the `n` likeliest classes of each row and their probabilities, likeliest first, each of shape (rows, n).

    If there are fewer classes than `n`, return all of them. Of equally likely classes, the one with the lower code comes first.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
    return classes[order], np.take_along_axis(probabilities, order, axis=1)


def confidence_metrics(truth: Codes, probabilities: _Floats, classes: Codes) -> dict[str, float]:
    """Return metrics of the probabilities of the holdout, for MLflow.

    Args:
        truth: prdtypecode of each row, shape (n,), int64, n > 0.
        probabilities: shape (n, n_classes); each row adds up to 1.
        classes: the class of each column, shape (n_classes,), int64, ascending.

    Returns:
        `expected_calibration_error`: the difference between mean confidence and accuracy within ten bins of equal width, averaged with
        the number of rows in each bin (Guo et al. 2017); `mean_confidence`; `top_3_accuracy`: the share of the rows whose true class
        is one of the three likeliest.
    """
    likeliest, values = ranked(probabilities, classes)
    confidence, correct = values[:, 0], likeliest[:, 0] == truth
    return {
        "expected_calibration_error": float(
            sum(abs(confidence[part].sum() - correct[part].sum()) for part in confidence_bins(confidence))
            / len(truth)
        ),
        "mean_confidence": float(confidence.mean()),
        "top_3_accuracy": float((likeliest == truth[:, None]).any(axis=1).mean()),
    }


def confidence_bins(confidence: _Floats) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each tenth of the confidence that has any, shape (rows of the bin,) each."""
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    parts = [np.flatnonzero(bins == number) for number in range(_BINS)]
    return [part for part in parts if len(part)]


def threshold(confidence: _Floats, correct: _Bools, target: float) -> float | None:
    """Return the lowest confidence from which on the predictions reach the accuracy `target`, or None if none is.

    Args:
        confidence: of the training products, by models that have not seen them, shape (n,).
        correct: whether each prediction is right, shape (n,).
        target: from 0 to 1.
    """
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # The predictions of one confidence are accepted together.
    is_last = np.append(np.diff(confidence[order]) != 0, True)
    reached = np.flatnonzero((accuracy >= target) & is_last)
    return float(confidence[order][reached[-1]]) if len(reached) else None


def coverage(
    thresholds: dict[float, float | None], truth: Codes, prediction: Codes, confidence: _Floats
) -> list[dict[str, Any]]:
    """Return, for each accuracy target, how many rows of the holdout reach its threshold, and how many of them are right.

    Args:
        thresholds: the threshold of each target, or None if no threshold reaches the target.
        truth: prdtypecode of each row, shape (n,), int64.
        prediction: predicted prdtypecode of each row, shape (n,), int64.
        confidence: of each prediction, shape (n,).

    Returns:
        For each target a mapping with `target`, `threshold`, what `_counted` returns for all rows, and `classes`: the same for the rows
        of each predicted class.
    """
    document = []
    for target, limit in thresholds.items():
        accepted = np.zeros(len(truth), np.bool_) if limit is None else confidence >= limit
        correct = prediction == truth
        classes = {
            str(code): _counted(accepted[prediction == code], correct[prediction == code])
            for code in np.unique(prediction).tolist()
        }
        entry = {"target": target, "threshold": limit, **_counted(accepted, correct), "classes": classes}
        document.append(entry)
    return document


def _counted(accepted: _Bools, correct: _Bools) -> dict[str, float | int | None]:
    """Return the number of rows, the share that is accepted, and the accuracy of these with the ends of its Wilson interval."""
    n, right = int(accepted.sum()), int(correct[accepted].sum())
    counted: dict[str, float | int | None] = {"rows": len(accepted), "coverage": n / len(accepted)}
    if not n:
        return counted | {"accuracy": None, "accuracy_ci_low": None, "accuracy_ci_high": None}
    interval = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    return counted | {
        "accuracy": right / n,
        "accuracy_ci_low": float(interval.low),
        "accuracy_ci_high": float(interval.high),
    }
