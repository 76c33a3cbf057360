"""Whether a new model takes the champion's place.

"The new F1 is higher" is a coin flip: on a holdout of 1,165 rows the difference of two independent scores has a standard
error of 0.0128, and weekly scores drop by noise alone. Comparing row by row on the same rows brings it to 0.0033.

The weighted F1 hardly sees a small class: one of 76 rows in 8,490 may be lost whole for 0.009. So there is a floor for each.
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
# Retraining trades classes against each other; less than this in one class is no reason to refuse a model that is as good.
TOLERATED_LOSS: Final = 0.05


@dataclass(frozen=True)
class ClassComparison:
    """One class of the holdout.

    Attributes:
        prdtypecode: which.
        rows: of the holdout that are of this class.
        champion_f1: the champion's F1 of this class.
        challenger_f1: the challenger's.
        p_value: one-sided, adjusted for the number of classes; small when the challenger is worse.
    """

    prdtypecode: int
    rows: int
    champion_f1: float
    challenger_f1: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """A challenger against the champion on the same rows.

    Attributes:
        difference: weighted F1 of the challenger minus that of the champion.
        ci_low: lower end of the difference's interval, which leaves `significance` out at each end (0.05: a 90 % interval).
        ci_high: upper end, and so the one-sided bound behind the decision.
        p_value: one-sided; small when the challenger is worse.
        significance: below which a p-value counts.
        n_rows: rows compared.
        promote: whether the challenger is good enough.
        reason: one sentence for people.
        blocked_by: the classes that keep it from it.
        classes: every class that has rows, ascending by code.
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
    """Compare in pairs of predictions: the weighted F1 by a bootstrap, the F1 of each class by a permutation test.

    The challenger wins unless it is significantly worse. It has seen more data, newer categories and the latest
    corrections, so the burden of proof lies with keeping the old model; asking for a significant gain would freeze the
    champion, because three per cent more rows rarely gain more than the noise.

    Algorithm: resample rows in pairs and recompute the difference (Koehn 2004, "Statistical significance tests for
    machine translation evaluation"). Rows with the same three codes are alike, so one multinomial draw over the distinct
    triples stands for a resample of the rows. For the floor see `_worse_by_permutation`.

    Args:
        y_true: prdtypecode of each row, shape (n,), int64, n > 0.
        challenger_pred: the new model's predictions of the same rows, shape (n,), int64.
        champion_pred: the present champion's, shape (n,), int64.
        seed: of the draws.
        significance: how often an equally good challenger may be refused for its weighted F1, and again for its classes.
        n_resamples: how many bootstrap resamples and how many permutations, at least.

    Raises:
        ValueError: the arrays differ in length or are empty.
    """
    codes, triples, counts = _distinct_triples(y_true, challenger_pred, champion_pred)
    true, challenger, champion = np.eye(len(codes))[triples.T]
    random = np.random.default_rng(seed)
    n_resamples = max(n_resamples, math.ceil(2 / significance))  # or no p-value could be that small
    draws = random.multinomial(counts.sum(), counts / counts.sum(), size=n_resamples)
    resampled = _weighted_difference(true, challenger, champion, draws)
    [difference] = _weighted_difference(true, challenger, champion, counts[np.newaxis]).tolist()
    ci_low, ci_high = np.quantile(resampled, [significance, 1 - significance]).tolist()
    p_value = float(_share(resampled >= 0))
    swapped = random.binomial(counts, 0.5, size=draws.shape)
    worse = _worse_by_permutation(true, challenger, champion, counts, swapped)
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
        reason="; ".join([reason, *map(_sentence, blocking)]),
        blocked_by=tuple(entry.prdtypecode for entry in blocking),
        classes=classes,
    )


def _sentence(entry: ClassComparison) -> str:
    name = f"class {entry.prdtypecode} ({category_name(entry.prdtypecode)})"
    change = f"F1 {entry.champion_f1:.3f} to {entry.challenger_f1:.3f} on {entry.rows} rows"
    return f"{name} falls beyond noise: {change}, adjusted p = {entry.p_value:.4f}"


def _worse_by_permutation(
    true: _Floats, challenger: _Floats, champion: _Floats, counts: _Counts, swapped: _Counts
) -> _Floats:
    """One-sided p-values of each class's F1 difference, shape (K,), adjusted so that they hold for all classes at once.

    Were the models equally good, swapping their predictions of a row would change nothing: each permutation swaps every row
    or not, by a coin (approximate randomization: Noreen 1989; Yeh 2000, "More accurate tests for the statistical significance
    of result differences"). It is exact for any number of rows, so no minimum has to be chosen under which a class is not
    judged. A class is held against the worst class of each permutation, each in units of its own spread (single-step max-T:
    Westfall & Young 1993, "Resampling-Based Multiple Testing"), so that 27 classes refuse no more by chance than one would.
    Simulated with the challenge's classes, it refuses 0 to 6 of 100 equally good models, and of a class of 76 rows finds a loss of
    40 % always and of 20 % in 7 of 10 trials (tests/benchmarks/promotion_simulation.py).

    Args:
        true: one-hot codes of the distinct triples, shape (t, K).
        challenger: likewise, of its predictions.
        champion: likewise.
        counts: how many rows each triple stands for, shape (t,).
        swapped: how many of them are swapped, shape (permutations, t).
    """
    kept = counts - swapped
    differences = _f1(true, (challenger, kept), (champion, swapped)) - _f1(
        true, (challenger, swapped), (champion, kept)
    )
    spread = differences.std(axis=0)
    spread[spread == 0] = np.inf  # the models agree on this class
    observed = (_f1(true, (challenger, counts)) - _f1(true, (champion, counts))) / spread
    return _share((differences / spread).min(axis=1)[:, np.newaxis] <= observed)


def _share(as_extreme: npt.NDArray[np.bool_]) -> _Floats:
    """The p-value: + 1 counts what was observed as one of the draws, so that it is never 0 (Davison & Hinkley 1997, 4.2)."""
    return np.asarray((1 + as_extreme.sum(axis=0)) / (1 + len(as_extreme)), np.float64)


def _distinct_triples(*columns: Codes) -> tuple[Codes, npt.NDArray[np.intp], _Counts]:
    """The codes, shape (K,), and the distinct (true, challenger, champion) as indices of them, (t, 3), with their counts (t,)."""
    if len({len(column) for column in columns}) != 1 or not len(columns[0]):
        raise ValueError(
            f"need as many predictions as true codes, and at least one: {[len(column) for column in columns]}"
        )
    codes, classes = np.unique(np.column_stack(columns), return_inverse=True)
    triples, counts = np.unique(classes.reshape(-1, len(columns)), axis=0, return_counts=True)
    return codes, triples, counts


def _weighted_difference(true: _Floats, challenger: _Floats, champion: _Floats, counts: _Counts) -> _Floats:
    """Weighted F1 of the challenger minus the champion's, shape (b,), of one-hot codes (t, K) that occur `counts` (b, t) times."""
    differences = _f1(true, (challenger, counts)) - _f1(true, (champion, counts))
    return np.asarray((differences * (counts @ true)).sum(axis=1) / counts.sum(axis=1), np.float64)


def _f1(true: _Floats, *predictions: tuple[_Floats, _Counts]) -> _Floats:
    """F1 of each class, shape (..., K): 2 hits over rows and predictions, 0 where there is neither, as in scikit-learn.

    Args:
        true: one-hot codes, shape (t, K).
        *predictions: a model's, as one-hot codes (t, K) and how often each occurs (..., t); two for one with predictions of both.
    """
    hits = sum(counts @ (true * predicted) for predicted, counts in predictions)
    total = np.asarray(sum(counts @ (true + predicted) for predicted, counts in predictions), np.float64)
    return np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)
