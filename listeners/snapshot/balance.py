"""Balance classes by random oversampling that depends only on the seed and the productids of the rows.

imbalanced-learn's `RandomOverSampler` draws rows by position: if it gets the same rows in another order, only 78 % of the
copies that it makes are the same as before. This module grows each class of n rows to M rows, the size of the largest class.
Each row occurs floor(M / n) times, and the M mod n rows with the smallest hash of seed and productid occur once more. So every
original row is kept, every class has exactly M rows, and the copies are spread evenly. The result does not depend on the order
or the partitioning of the rows, or on the machine.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from imblearn.over_sampling.base import BaseOverSampler

from shared.hashing import Salt, keys


def multiplicities(
    productids: npt.NDArray[np.int64], labels: npt.NDArray[np.int32], random_seed: int
) -> npt.NDArray[np.int64]:
    """Return how often each given row must occur in the balanced dataset (at least once), shape (rows,), int64."""
    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not len(classes):
        return np.empty(0, np.int64)
    largest = counts.max()
    # Rank the rows of each class by (hash key, productid). If the largest class has M rows and this class has n, the M mod n
    # rows with the lowest ranks get one copy more than the others.
    order = np.lexsort((productids, keys(productids, random_seed, Salt.OVERSAMPLING), class_of))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    copies: npt.NDArray[np.int64] = largest // counts[class_of] + (rank < (largest % counts)[class_of])
    return copies


class HashOverSampler(BaseOverSampler):  # type: ignore[misc]
    """An imbalanced-learn sampler that repeats rows until every class has as many rows as the largest class.

    `multiplicities` decides how often each row occurs.

    `fit_resample(X, y)` takes productids as X, shape (rows, 1), int64, and labels as y, shape (rows,). In the result, the
    copies of a row are adjacent, and the rows keep their order.

    Attributes:
        sample_indices_: for each row of the result, the index of its original in X, shape (rows of the result,), int64.
    """

    def __init__(self, *, random_seed: int = 42) -> None:
        super().__init__(sampling_strategy="not majority")
        self.random_seed = random_seed

    def count_copies(
        self, productids: npt.NDArray[np.int64], labels: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int64]:
        """Return how often `fit_resample` returns each row, shape (rows,), int64, without copying any row."""
        return multiplicities(productids, labels, self.random_seed)

    def _fit_resample(self, X: Any, y: Any, **_params: Any) -> tuple[Any, Any]:  # noqa: N803  imbalanced-learn's names
        copies = self.count_copies(np.asarray(X)[:, 0].astype(np.int64), np.asarray(y))
        self.sample_indices_ = np.repeat(np.arange(len(copies)), copies)
        return X[self.sample_indices_], y[self.sample_indices_]
