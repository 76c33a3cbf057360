"""Decide whether a new model, the challenger, may replace the champion.

A higher F1 alone proves little. On two different holdouts of 1,165 rows, the difference of two F1 scores has a standard error
of 0.0128, so a score may drop by chance. If both models predict the same rows and are compared row by row, the error is 0.0033.

A small class hardly changes the weighted F1: a model that gets all 76 rows of one class wrong, in a holdout of 8,490 rows,
loses only 0.009. So each class is also tested alone, and a large, significant loss in one class blocks the promotion.
"""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.categories import category_name

Codes: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]
_Counts: TypeAlias = npt.NDArray[np.int64]

SIGNIFICANCE: Final = 0.05
# A model may be promoted although its F1 in one class is lower than the champion's by up to this value. Retraining improves
# some classes and worsens others, even when the model as a whole is as good.
TOLERATED_LOSS: Final = 0.05


@dataclass(frozen=True)
class ClassComparison:
    """The comparison of challenger and champion on the holdout rows of one product class.

    Attributes:
        prdtypecode: code of the product class.
        rows: number of holdout rows of this class.
        champion_f1: the champion's F1 in this class.
        challenger_f1: the challenger's F1 in this class.
        p_value: one-sided p-value of the F1 difference, adjusted for the number of classes; small if the challenger is worse.
    """

    prdtypecode: int
    rows: int
    champion_f1: float
    challenger_f1: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of a challenger with a champion on the same holdout rows.

    Attributes:
        difference: weighted F1 of the challenger minus weighted F1 of the champion.
        ci_low: lower end of the difference's confidence interval. The interval leaves out a share of `significance` at each
            end: for example, 0.05 gives a 90 % interval.
        ci_high: upper end of this interval. If it is below 0, the challenger is significantly worse.
        p_value: one-sided p-value of the difference; small if the challenger is worse.
        significance: the challenger is significantly worse if a p-value is below this limit.
        n_rows: number of compared rows.
        promote: True if the challenger may replace the champion.
        reason: one sentence for people that explains the decision.
        blocked_by: codes of the product classes in which the challenger is so much worse that they block the promotion.
        classes: the comparison in every product class that has holdout rows, ascending by code.
    """

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    significance: float
    n_rows: int
    promote: bool
    reason: str
    blocked_by: tuple[int, ...]
    classes: tuple[ClassComparison, ...]


def compare(
    y_true: Codes,
    challenger_pred: Codes,
    champion_pred: Codes,
    *,
    seed: int,
    significance: float = SIGNIFICANCE,
    n_resamples: int = 2000,
) -> Comparison:
    """Compare two models on the same rows: their weighted F1 by a bootstrap, their F1 in each class by a permutation test.

    The challenger may replace the champion unless the challenger is significantly worse. The challenger is preferred because it
    was trained on more data, newer categories and the latest corrections. If a challenger had to be significantly better, the
    champion would never change: a week adds three per cent of the rows, and so few rows rarely raise the F1 by more than the
    noise.

    Algorithm: resample rows, each with both predictions, and recompute the difference of the weighted F1 (Koehn 2004,
    "Statistical significance tests for machine translation evaluation"). Rows with the same triple (true code, challenger's
    prediction, champion's prediction) are alike. So one multinomial draw over the distinct triples replaces a resample of the
    rows. `_class_p_values` tests each class.

    Args:
        y_true: prdtypecode of each row, shape (n,), int64, n > 0.
        challenger_pred: predictions of the new model for the same rows, shape (n,), int64.
        champion_pred: predictions of the present champion for the same rows, shape (n,), int64.
        seed: seed of the random draws.
        significance: probability that the test of the weighted F1 rejects a challenger that is as good as the champion. The
            tests of all classes together (family-wise error rate) have the same probability.
        n_resamples: minimum number of bootstrap resamples, and of permutations.

    Raises:
        ValueError: the arrays differ in length or are empty.
    """
    codes, triples, counts = _distinct_triples(y_true, challenger_pred, champion_pred)
    true, challenger, champion = np.eye(len(codes))[triples.T]
    random = np.random.default_rng(seed)
    # Draw enough resamples: if the smallest possible p-value, 1 / (n_resamples + 1), is not below `significance`, the tests
    # can never reject a challenger.
    n_resamples = max(n_resamples, math.ceil(2 / significance))
    draws = random.multinomial(counts.sum(), counts / counts.sum(), size=n_resamples)
    resampled = _weighted_difference(true, challenger, champion, draws)
    [difference] = _weighted_difference(true, challenger, champion, counts[np.newaxis]).tolist()
    ci_low, ci_high = np.quantile(resampled, [significance, 1 - significance]).tolist()
    p_value = float(_p_values(resampled >= 0))
    swapped = random.binomial(counts, 0.5, size=draws.shape)
    worse = _class_p_values(true, challenger, champion, counts, swapped)
    columns = (counts @ true, _f1(true, (champion, counts)), _f1(true, (challenger, counts)), worse)
    classes = tuple(
        ClassComparison(code, int(rows), *values)
        for code, rows, *values in zip(codes.tolist(), *(column.tolist() for column in columns), strict=True)
        if rows
    )
    blocking = [
        entry
        for entry in classes
        if entry.p_value < significance and entry.challenger_f1 < entry.champion_f1 - TOLERATED_LOSS
    ]
    verdict = "not significantly worse" if p_value >= significance else "significantly worse"
    reason = (
        f"{verdict}: weighted F1 {difference:+.4f} on {len(y_true)} rows, "
        f"{100 - 200 * significance:.4g} % interval [{ci_low:+.4f}, {ci_high:+.4f}], one-sided p = {p_value:.4f}"
    )
    return Comparison(
        difference=difference,
        ci_low=ci_low,
        ci_high=ci_high,
        p_value=p_value,
        significance=significance,
        n_rows=len(y_true),
        promote=p_value >= significance and not blocking,
        reason="; ".join([reason, *map(_explain, blocking)]),
        blocked_by=tuple(entry.prdtypecode for entry in blocking),
        classes=classes,
    )


def _explain(entry: ClassComparison) -> str:
    name = f"class {entry.prdtypecode} ({category_name(entry.prdtypecode)})"
    change = f"F1 {entry.champion_f1:.3f} to {entry.challenger_f1:.3f} on {entry.rows} rows"
    return f"{name} is significantly worse: {change}, adjusted p = {entry.p_value:.4f}"


def _class_p_values(
    true: _Floats, challenger: _Floats, champion: _Floats, counts: _Counts, swapped: _Counts
) -> _Floats:
    """Return each class's one-sided p-value, shape (K,), adjusted for testing all K classes at once.

    The test examines the class's F1 difference: the challenger's F1 minus the champion's F1. A small p-value means that the
    challenger is worse.

    If the models are equally good, it does not matter which of the two made which prediction of a row. So each permutation
    swaps the two predictions of each row with probability 1/2 (approximate randomization: Noreen 1989; Yeh 2000, "More accurate
    tests for the statistical significance of result differences"). The test is exact for any number of rows, so even the
    smallest class can be tested.

    The F1 differences of each class are divided by their standard deviation. Each permutation then gives one value: the lowest
    difference of any class. Each class's difference without swaps is compared with these values. (This is the single-step max-T
    method of Westfall & Young 1993, "Resampling-Based Multiple Testing", with the minimum instead of the maximum.) So the tests
    of 27 classes reject an equally good model by chance no more often than the test of a single class.

    In a simulation with the class sizes of the Rakuten challenge, the test rejects 0 to 6 of 100 equally good models. If a
    model loses 40 % of a class of 76 rows, the test always detects the loss. If the model loses 20 %, the test detects the loss
    in 7 of 10 trials (tests/benchmarks/promotion_simulation.py).

    Args:
        true: one-hot true codes of the distinct triples (true code, challenger's and champion's prediction), shape (t, K).
        challenger: one-hot codes that the challenger predicted for the triples, shape (t, K).
        champion: one-hot codes that the champion predicted for the triples, shape (t, K).
        counts: number of holdout rows with each triple, shape (t,).
        swapped: how many of these rows have their predictions swapped in each permutation, shape (permutations, t).
    """
    kept = counts - swapped
    differences = _f1(true, (challenger, kept), (champion, swapped)) - _f1(
        true, (challenger, swapped), (champion, kept)
    )
    spread = differences.std(axis=0)
    # If all permutations give a class the same difference, this difference is 0, because a swap of all rows reverses its sign.
    # Division of this 0 by inf gives 0, but division by 0 would give NaN.
    spread[spread == 0] = np.inf
    observed = (_f1(true, (challenger, counts)) - _f1(true, (champion, counts))) / spread
    return _p_values((differences / spread).min(axis=1)[:, np.newaxis] <= observed)


def _p_values(as_extreme: npt.NDArray[np.bool_]) -> _Floats:
    """Return the p-value of each class: the share of random draws whose difference is as extreme as the observed one.

    `as_extreme` says this for each draw (row) and class (column). The observed difference counts as one more draw, so that no
    p-value is 0 (Davison & Hinkley 1997, section 4.2).
    """
    return np.asarray((1 + as_extreme.sum(axis=0)) / (1 + len(as_extreme)), np.float64)


def _distinct_triples(*columns: Codes) -> tuple[Codes, npt.NDArray[np.intp], _Counts]:
    """Count the distinct triples of three columns of codes: a triple is the three codes of one row.

    Return three arrays: the K distinct codes, ascending; the t distinct triples, each code given as its index in the first
    array, shape (t, 3); and the number of rows of each triple, shape (t,).
    """
    if len({len(column) for column in columns}) != 1 or not len(columns[0]):
        raise ValueError(
            f"the true codes and the predictions must have the same length, at least 1; the lengths are {[len(column) for column in columns]}"
        )
    codes, classes = np.unique(np.column_stack(columns), return_inverse=True)
    triples, counts = np.unique(classes.reshape(-1, len(columns)), axis=0, return_counts=True)
    return codes, triples, counts


def _weighted_difference(true: _Floats, challenger: _Floats, champion: _Floats, counts: _Counts) -> _Floats:
    """Return the challenger's weighted F1 minus the champion's for b resamples of the rows, shape (b,).

    `counts` says how often each triple (true code and both predictions) occurs in each resample, shape (b, t). For the
    other arguments see `_class_p_values`.
    """
    differences = _f1(true, (challenger, counts)) - _f1(true, (champion, counts))
    return np.asarray((differences * (counts @ true)).sum(axis=1) / counts.sum(axis=1), np.float64)


def _f1(true: _Floats, *predictions: tuple[_Floats, _Counts]) -> _Floats:
    """Return the F1 of each class, shape (..., K): 2 * correctly predicted rows / (true rows + predicted rows).

    As in scikit-learn, the F1 of a class is 0 if the class has neither true rows nor predicted rows.

    Args:
        true: one-hot true codes of the distinct triples (true code, challenger's and champion's prediction), shape (t, K).
        *predictions: one or two pairs of arrays. The first array holds the one-hot codes that a model predicted for the
            triples, shape (t, K). The second holds, for each triple, the number of rows for which this prediction counts,
            shape (..., t). With two pairs, the challenger's prediction counts for some rows, and the champion's for the others.
    """
    hits = sum(counts @ (true * predicted) for predicted, counts in predictions)
    total = np.asarray(sum(counts @ (true + predicted) for predicted, counts in predictions), np.float64)
    return np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)
