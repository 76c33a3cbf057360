"""Random oversampling whose draw depends on nothing but the seed and the ids of the rows.

`RandomOverSampler` draws by position: the same rows in another order share only 78 % of its copies. Here a class of n rows,
to be raised to M, gives each row floor(M / n) copies and one more to the M mod n rows with the smallest hash. Every original
is kept, every class has exactly M rows, copies are spread evenly, and any machine or partitioning picks the same rows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from imblearn.over_sampling.base import BaseOverSampler

from shared.hashing import Salt, keys


def multiplicities(
    productids: npt.NDArray[np.int64], labels: npt.NDArray[np.int32], random_seed: int
) -> npt.NDArray[np.int64]:
    """How many copies of each row the balanced dataset holds, shape (rows,), int64; the order of the rows plays no part."""
    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not len(classes):
        return np.empty(0, np.int64)
    largest = counts.max()
    # rows by class, then by (key, productid): the place within its class decides who gets the extra copy
    order = np.lexsort((productids, keys(productids, random_seed, Salt.OVERSAMPLING), class_of))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    copies: npt.NDArray[np.int64] = largest // counts[class_of] + (place < (largest % counts)[class_of])
    return copies


class HashOverSampler(BaseOverSampler):  # type: ignore[misc]
    """The rule above behind imbalanced-learn's interface: raises every class to the largest class's count.

    `fit_resample(X, y)` takes X of shape (rows, 1) with the productids, int64, and y of shape (rows,) with the labels.
    Copies of a row stand together and rows keep their order.

    Attributes:
        sample_indices_: shape (rows of the balanced set,), int64: which row each balanced row is a copy of.
    """

    def __init__(self, *, random_seed: int = 42) -> None:
        super().__init__(sampling_strategy="not majority")
        self.random_seed = random_seed

    def copies_of(
        self, productids: npt.NDArray[np.int64], labels: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int64]:
        """The draw itself, shape (rows,), int64: how often `fit_resample` repeats each row, without the repeated rows."""
        return multiplicities(productids, labels, self.random_seed)

    def _fit_resample(self, X: Any, y: Any, **_params: Any) -> tuple[Any, Any]:  # noqa: N803  imbalanced-learn's names
        copies = self.copies_of(np.asarray(X)[:, 0].astype(np.int64), np.asarray(y))
        self.sample_indices_ = np.repeat(np.arange(len(copies)), copies)
        return X[self.sample_indices_], y[self.sample_indices_]
