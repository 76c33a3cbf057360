"""Draw random numbers that are the same on every machine.

NumPy guarantees the raw 64-bit output of PCG64, but not the results of the methods of `Generator` (NEP 19). Floating-point
results may be rounded differently on another machine. So every draw here is integer arithmetic on the raw output.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]

_LOW_32_BITS = np.uint64(32)
_PER_MILLION = 1_000_000


class Draws:
    """A stream of random integers that a seed determines. Each call of a method draws a whole array from the stream."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def below(self, bound: int | Integers, size: int | tuple[int, ...]) -> Integers:
        """Return random integers from 0 to `bound` - 1.

        `bound` is one number for all returned integers, or an array with a number for each of them. A bound is at most 2^31.
        """
        shape = (size,) if isinstance(size, int) else size
        high = self._raw(int(np.prod(shape))).reshape(shape) >> _LOW_32_BITS
        return ((high * np.asarray(bound).astype(np.uint64)) >> _LOW_32_BITS).astype(np.int64)

    def happens(self, share: float | npt.NDArray[np.float64], size: int) -> Booleans:
        """Return `size` random booleans. Each is True with the probability `share`, which is first rounded to a millionth."""
        threshold = np.rint(np.asarray(share) * _PER_MILLION).astype(np.int64)
        happened: Booleans = self.below(_PER_MILLION, size) < threshold
        return happened

    def choose(self, weights: Integers, size: int) -> Integers:
        """Return `size` random positions in `weights`. The probability of position i is proportional to weights[i]."""
        upper = np.cumsum(weights)
        return np.searchsorted(upper, self.below(int(upper[-1]), size), side="right").astype(np.int64)

    def permutation(self, size: int) -> Integers:
        return np.argsort(self._raw(size), kind="stable").astype(np.int64)

    def _raw(self, size: int) -> npt.NDArray[np.uint64]:
        return self._bits.random_raw(size)
