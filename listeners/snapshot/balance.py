"""Balance classes by random oversampling that depends only on the seed and the productids of the rows.

imbalanced-learn's `RandomOverSampler` draws by position: for the same rows in another order, only 78 % of the copies are the
same. Here each class of n rows grows to M rows, the size of the largest class. Each row gets floor(M / n) copies, and the
M mod n rows with the smallest hash get one more. So every original is kept, every class has exactly M rows, and the copies are
spread evenly. Any machine and any partitioning of the rows picks the same rows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from imblearn.over_sampling.base import BaseOverSampler

from shared.hashing import Salt, keys


def multiplicities(
    productids: npt.NDArray[np.int64], labels: npt.NDArray[np.int32], random_seed: int
) -> npt.NDArray[np.int64]:
    """Return how many copies of each row the balanced dataset holds, shape (rows,), int64; the row order does not matter."""
    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not len(classes):
        return np.empty(0, np.int64)
    largest = counts.max()
    # Sort rows by class, then by (hash key, productid). The rank within the class decides which rows get an extra copy.
    order = np.lexsort((productids, keys(productids, random_seed, Salt.OVERSAMPLING), class_of))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    copies: npt.NDArray[np.int64] = largest // counts[class_of] + (rank < (largest % counts)[class_of])
    return copies


class HashOverSampler(BaseOverSampler):  # type: ignore[misc]
    """An imbalanced-learn sampler that raises every class to the size of the largest class, by the rule of this module.

    `fit_resample(X, y)` takes productids as X, shape (rows, 1), int64, and labels as y, shape (rows,). In the result, the
    copies of a row are adjacent, and the rows keep their order.

    Attributes:
        sample_indices_: index of the original of each balanced row, shape (rows of the balanced set,), int64.
    """

    def __init__(self, *, random_seed: int = 42) -> None:
        super().__init__(sampling_strategy="not majority")
        self.random_seed = random_seed

    def count_copies(
        self, productids: npt.NDArray[np.int64], labels: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int64]:
        """Return how often `fit_resample` would repeat each row, shape (rows,), int64, without building the repeated rows."""
        return multiplicities(productids, labels, self.random_seed)

    def _fit_resample(self, X: Any, y: Any, **_params: Any) -> tuple[Any, Any]:  # noqa: N803  imbalanced-learn's names
        copies = self.count_copies(np.asarray(X)[:, 0].astype(np.int64), np.asarray(y))
        self.sample_indices_ = np.repeat(np.arange(len(copies)), copies)
        return X[self.sample_indices_], y[self.sample_indices_]
