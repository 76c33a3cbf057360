"""Compare two groups of rows by the histograms of one feature, and decide whether they differ by more than chance.

Two measures say how far the histograms are apart. The *population stability index* (PSI) is the one that people know from credit
scoring. The *Jensen-Shannon divergence* is symmetric, lies between 0 and 1, and needs no smoothing for an empty bin; it decides.

A fixed threshold cannot decide: at 300 rows, chance alone moves 27 class shares by more than a real change does at 30,000 rows.
So the rows of both groups are mixed and divided again at random, 999 times, and the divergence of each such pair is measured. If
nothing has changed, the real division is as good as any of the random ones. It then exceeds all 999 only once in 1,000 comparisons
(Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero"). To mix rows and divide them again, only the histograms are
needed: the bins of a random half follow a multivariate hypergeometric distribution.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon

# With seven features, two references and a batch a week there are about 730 comparisons a year: less than one false alarm a year.
DIVISIONS: Final = 999
# Added to each bin before the PSI is computed, which is infinite for an empty bin (Jeffreys' prior of a multinomial).
_SMOOTHING: Final = 0.5

Histogram = Mapping[str, int]  # the number of rows in each bin; a missing bin has 0
_Counts = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


def compare(feature: str, reference: str, new: Histogram, old: Histogram, *, seed: int) -> dict[str, Any]:
    """Compare the histogram of a batch's new rows with the histogram of earlier rows.

    Args:
        feature: name of the feature, for the returned entry.
        reference: name of the earlier rows, for the returned entry: `first` or `before`.
        new: of the new rows, at least one row.
        old: of the earlier rows, at least one row.
        seed: seed of the random divisions.

    Returns:
        `feature`, `reference`, `rows` and `reference_rows` (the numbers of rows), `psi`, `js` (Jensen-Shannon divergence in bits, from
        0 to 1), `noise` (the largest divergence of the random divisions) and `drifted` (whether `js` exceeds `noise`).
    """
    bins = sorted(new.keys() | old.keys())
    counts, earlier = (
        np.array([histogram.get(name, 0) for name in bins], np.int64) for histogram in (new, old)
    )
    rows, pooled = int(counts.sum()), counts + earlier
    divisions = np.random.default_rng(seed).multivariate_hypergeometric(
        pooled, rows, size=DIVISIONS, method="marginals"
    )
    # The real division is measured together with the random ones, so that equal histograms give exactly equal divergences.
    measured = _divergence(np.vstack([counts, divisions]), pooled)
    return {
        "feature": feature,
        "reference": reference,
        "rows": rows,
        "reference_rows": int(earlier.sum()),
        "psi": _psi(counts, earlier),
        "js": float(measured[0]),
        "noise": float(measured[1:].max()),
        "drifted": bool(measured[0] > measured[1:].max()),
    }


def _divergence(counts: _Counts, pooled: _Counts) -> _Floats:
    """Return the Jensen-Shannon divergence between each row of `counts`, shape (n, bins), and the rest of `pooled`, shape (n,)."""
    distance: Any = jensenshannon(counts, pooled - counts, base=2, axis=1)
    # Rounded, so that equal divisions give equal divergences, in whatever order the sums were made.
    divergence: _Floats = np.round(np.square(distance), 12)
    return divergence


def _psi(counts: _Counts, earlier: _Counts) -> float:
    new, old = ((part + _SMOOTHING) / (part + _SMOOTHING).sum() for part in (counts, earlier))
    return float(((new - old) * np.log(new / old)).sum())
