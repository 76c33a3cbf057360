"""Name the groups of products that drift compares, and the features' bins, for both stages."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from listeners.drift.compare import Histogram, compare

NEW: Final = "new"
FIRST: Final = "first"
BEFORE: Final = "before"
GROUPS: Final = (NEW, FIRST, BEFORE)

Histograms = Mapping[str, Mapping[str, Histogram]]  # by feature, then by group


def compare_groups(histograms: Histograms, *, seed: int) -> list[dict[str, Any]]:
    """Compare the new products with each reference, feature by feature. Leave out a comparison with a group without products.

    Return the entries of `compare`.
    """
    return [
        compare(feature, reference, groups[NEW], groups[reference], seed=seed)
        for feature, groups in histograms.items()
        for reference in (FIRST, BEFORE)
        if sum(groups.get(NEW, {}).values()) and sum(groups.get(reference, {}).values())
    ]


def histogram(values: npt.NDArray[Any], edges: Sequence[float]) -> dict[str, int]:
    """Count values between fixed edges. The bins are named by their lower edge, for example `40` for 40 <= value < 50.

    Args:
        values: shape (n,), numbers.
        edges: ascending; the first bin begins at the first edge, and the last bin has no upper edge.
    """
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, None)
    counts = np.bincount(bins, minlength=len(edges)).tolist()
    return {f"{edge:g}": count for edge, count in zip(edges, counts, strict=True)}
