"""Compare the products that a week added with earlier ones, as a model sees them that has not seen them: words and confidence.

A dataset's run names the products (drift_sample.parquet), because the training stage may not read them in PostgreSQL. All groups are
measured with the same dataset and the same model. If each week were measured with its own model, the confidence would rise with
the number of training rows, and each week would seem to differ from the first.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
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


def read_sample(path: Path) -> dict[str, _Ints]:
    """Read the file drift_sample.parquet of a dataset's run: the productids of each group."""
    table = pq.read_table(path)
    names, productids = np.array(table["group"].to_pylist(), np.str_), table["productid"].to_numpy()
    return {name: productids[names == name] for name in np.unique(names).tolist()}


def drift_document(
    sample: Mapping[str, _Ints],
    data: TrainingData,
    model: FittedModel,
    earlier_words: Mapping[str, int],
    *,
    seed: int,
) -> dict[str, Any]:
    """Return the content of the model's drift.json: `histograms` by feature, group and bin, and `drift`, the comparisons.

    Args:
        sample: productids of the compared products, by group.
        data: the training products.
        model: the model that was fitted on them. Without out-of-fold probabilities, confidence is not compared.
        earlier_words: in how many titles of products that are not new each word occurs.
        seed: seed of the comparison.
    """
    groups = {name: _positions(data.productids, productids) for name, productids in sample.items()}
    histograms = {}
    if len(groups) > 1:
        titles = data.products["designation"].to_numpy()
        shares = {
            # A title of an earlier product is itself one of the titles that were counted.
            name: unknown_shares(titles[found], earlier_words, own=int(name != NEW))
            for name, found in groups.items()
        }
        histograms["unknown words"] = {
            name: histogram(found, _UNKNOWN_EDGES) for name, found in shares.items()
        }
        if model.out_of_fold is not None:
            confidence = ranked(model.out_of_fold, model.classes, 1)[1][:, 0]
            histograms["confidence"] = {
                name: histogram(confidence[found], _CONFIDENCE_EDGES) for name, found in groups.items()
            }
    return {"histograms": histograms, "drift": compare_groups(histograms, seed=seed)}


def earlier_words(sample: Mapping[str, _Ints], data: TrainingData) -> Mapping[str, int]:
    """Return in how many titles of products that are not new each word occurs; nothing without new products."""
    if NEW not in sample:
        return {}
    return count_words(data.products["designation"].to_numpy()[~np.isin(data.productids, sample[NEW])])


def words_of(title: str) -> set[str]:
    """Return the words of a title, in lower case."""
    return set(_WORD.findall(title.lower()))


def count_words(titles: Iterable[str], known: AbstractSet[str] | None = None) -> Counter[str]:
    """Return in how many titles each word occurs; only the words in `known`, if it is given.

    Only the counts are kept, because the words of all titles take a hundred megabytes.
    """
    if known is None:
        return Counter(word for title in titles for word in words_of(title))
    return Counter(word for title in titles for word in words_of(title) & known)


def unknown_shares(titles: Iterable[str], earlier_words: Mapping[str, int], *, own: int) -> _Floats:
    """Return, for each title, the share of its words that occur in no other title of an earlier week, shape (titles,).

    A title without a word has the share 0.

    Args:
        titles: of the products of one group.
        earlier_words: in how many titles of earlier products each word occurs.
        own: 1 if the titles themselves are among these, else 0. So both kinds of products are measured alike.
    """

    def share(title: str) -> float:
        found = words_of(title)
        unknown = sum(earlier_words.get(word, 0) <= own for word in found)
        return unknown / len(found) if found else 0.0

    return np.array([share(title) for title in titles])


def _positions(productids: _Ints, wanted: _Ints) -> _Ints:
    """Return the positions of the products of `wanted` that `productids`, which is ascending, contains."""
    found = np.minimum(np.searchsorted(productids, wanted), len(productids) - 1)
    return np.asarray(found[productids[found] == wanted], np.int64)
