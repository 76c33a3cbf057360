"""Whether a new model takes the champion's place.

"The new F1 is higher" is a coin flip: on a holdout of 1,165 rows the difference of two independent scores has a standard
error of 0.0128, and weekly scores drop by noise alone. Comparing row by row on the same rows brings it to 0.0033.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Codes: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]

SIGNIFICANCE: Final = 0.05


@dataclass(frozen=True)
class Comparison:
    """A challenger against the champion on the same rows.

    Attributes:
        difference: weighted F1 of the challenger minus that of the champion.
        ci_low: lower end of the difference's 90 % interval.
        ci_high: upper end, and so the one-sided 95 % bound behind the decision.
        p_value: one-sided; small when the challenger is worse.
        n_rows: rows compared.
        promote: whether the challenger becomes champion.
        reason: one sentence for people.
    """

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n_rows: int
    promote: bool
    reason: str


def compare(
    y_true: Codes, challenger_pred: Codes, champion_pred: Codes, *, seed: int, n_resamples: int = 2000
) -> Comparison:
    """Compare by a paired bootstrap of the difference in weighted F1.

    The challenger wins unless it is significantly worse. It has seen more data, newer categories and the latest
    corrections, so the burden of proof lies with keeping the old model; asking for a significant gain would freeze the
    champion, because three per cent more rows rarely gain more than the noise.

    Algorithm: resample rows in pairs and recompute the difference (Koehn 2004, "Statistical significance tests for
    machine translation evaluation"). Rows with the same three codes are alike, so one multinomial draw over the distinct
    triples stands for a resample of the rows.

    Args:
        y_true: prdtypecode of each row, shape (n,), int64, n > 0.
        challenger_pred: the new model's predictions of the same rows, shape (n,), int64.
        champion_pred: the present champion's, shape (n,), int64.
        seed: of the bootstrap.
        n_resamples: how many bootstrap resamples.

    Raises:
        ValueError: the arrays differ in length or are empty.
    """
    triples, counts = _distinct_triples(y_true, challenger_pred, champion_pred)
    n_rows = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(n_rows, counts / n_rows, size=n_resamples)
    [difference] = _f1_difference(triples, counts[np.newaxis])
    resampled = _f1_difference(triples, draws)
    ci_low, ci_high = np.quantile(resampled, [SIGNIFICANCE, 1 - SIGNIFICANCE]).tolist()
    # The + 1 counts the observed sample as one of the resamples, so that p is never 0 (Davison & Hinkley 1997, 4.2).
    p_value = float((1 + np.count_nonzero(resampled >= 0)) / (1 + n_resamples))
    promote = p_value >= SIGNIFICANCE
    verdict = "not significantly worse" if promote else "significantly worse"
    reason = (
        f"{verdict}: weighted F1 {difference:+.4f} on {n_rows} rows, "
        f"90 % interval [{ci_low:+.4f}, {ci_high:+.4f}], one-sided p = {p_value:.3f}"
    )
    return Comparison(float(difference), ci_low, ci_high, p_value, n_rows, promote, reason)


def _distinct_triples(*codes: Codes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """The distinct (true, challenger, champion) triples as indices of classes, shape (t, 3), and their counts (t,)."""
    if len({len(column) for column in codes}) != 1 or not len(codes[0]):
        raise ValueError(
            f"need as many predictions as true codes, and at least one: {[len(column) for column in codes]}"
        )
    _, classes = np.unique(np.column_stack(codes), return_inverse=True)
    triples, counts = np.unique(classes.reshape(-1, len(codes)), axis=0, return_counts=True)
    return triples, counts


def _f1_difference(triples: npt.NDArray[np.intp], counts: npt.NDArray[np.int64]) -> _Floats:
    """Challenger minus champion, shape (b,), for each row of `counts`, shape (b, t)."""
    true, challenger, champion = np.eye(triples.max() + 1)[triples.T]
    return _weighted_f1(true, challenger, counts) - _weighted_f1(true, champion, counts)


def _weighted_f1(true: _Floats, predicted: _Floats, counts: npt.NDArray[np.int64]) -> _Floats:
    """Weighted F1, shape (b,), of one-hot codes (t, K) that occur `counts` (b, t) times."""
    support = counts @ true
    total = support + counts @ predicted
    f1 = np.divide(2 * (counts @ (true * predicted)), total, out=np.zeros_like(total), where=total > 0)
    return np.asarray((f1 * support).sum(axis=1) / counts.sum(axis=1), np.float64)
