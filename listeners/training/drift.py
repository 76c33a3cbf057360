"""Compare the products that a week added with earlier ones, as a model sees them that has not seen them: words and confidence.

A dataset's run names the products (drift_sample.parquet), because the training stage may not read them in PostgreSQL. All groups are
measured with the same dataset and the same model. If each week were measured with its own model, the confidence would rise with
the number of training rows, and each week would seem to differ from the first.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from listeners.drift.groups import NEW, compare_groups, histogram
from listeners.training.confidence import ranked
from listeners.training.dataset import TrainingData
from listeners.training.trainers import FittedModel

_WORD: Final = re.compile(r"\w\w+")  # as scikit-learn's vectorizers define a word
_UNKNOWN_EDGES: Final = (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75)
_CONFIDENCE_EDGES: Final = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


def drift_document(sample: Path, data: TrainingData, model: FittedModel, *, seed: int) -> dict[str, Any]:
    """Return the content of the model's drift.json: `histograms` by feature, group and bin, and `drift`, the comparisons.

    Args:
        sample: the file drift_sample.parquet of the dataset's run.
        data: the training products.
        model: the model that was fitted on them. Without out-of-fold probabilities, confidence is not compared.
        seed: seed of the comparison.
    """
    table = pq.read_table(sample)
    names, productids = np.array(table["group"].to_pylist(), np.str_), table["productid"].to_numpy()
    groups = {
        name: _positions(data.productids, productids[names == name]) for name in np.unique(names).tolist()
    }
    histograms = {}
    if len(groups) > 1:
        shares = unknown_shares(data.products["designation"].tolist(), groups)
        histograms["unknown words"] = {
            name: histogram(found, _UNKNOWN_EDGES) for name, found in shares.items()
        }
        if model.out_of_fold is not None:
            confidence = ranked(model.out_of_fold, model.classes, 1)[1][:, 0]
            histograms["confidence"] = {
                name: histogram(confidence[found], _CONFIDENCE_EDGES) for name, found in groups.items()
            }
    return {"histograms": histograms, "drift": compare_groups(histograms, seed=seed)}


def unknown_shares(titles: list[str], groups: dict[str, _Ints]) -> dict[str, _Floats]:
    """Return, for each product of each group, the share of its title's words that occur in no other title of an earlier week.

    The earlier products are all that are not new. For an earlier product, its own title does not count, so both kinds are measured
    alike. A title without a word has the share 0.

    Args:
        titles: of all products, in any order.
        groups: the positions in `titles` of the products of each group; the group `new` is the one that is not earlier.

    Returns:
        For each group an array of shape (products of the group,).
    """

    def words(position: int) -> set[str]:
        return set(_WORD.findall(titles[position].lower()))

    new = set(groups[NEW].tolist())
    # Only the counts are kept, because the words of all titles take a hundred megabytes.
    titles_with = Counter(
        word for position in range(len(titles)) if position not in new for word in words(position)
    )

    def share(position: int) -> float:
        own, found = 0 if position in new else 1, words(position)
        unknown = sum(titles_with[word] <= own for word in found)
        return unknown / len(found) if found else 0.0

    return {
        name: np.array([share(position) for position in found.tolist()]) for name, found in groups.items()
    }


def _positions(productids: _Ints, wanted: _Ints) -> _Ints:
    """Return the positions of the products of `wanted` that `productids`, which is ascending, contains."""
    found = np.minimum(np.searchsorted(productids, wanted), len(productids) - 1)
    return np.asarray(found[productids[found] == wanted], np.int64)
