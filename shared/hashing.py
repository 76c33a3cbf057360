"""Compute the hash that decides every choice of rows: Spark's `xxhash64(seed, salt, value)`, shifted right to 63 bits.

There are three choices. The sample (which rows each week loads) and the oversampling (which rows a dataset repeats) take the
products with the smallest hashes of their ids. The holdout takes groups of products by the hash of their text. So the choices
depend only on the seed and the products: not on file order, library versions, partitioning or machine. Each choice has its own
salt, so that the three choices are independent of each other.

The algorithm is XXH64 of the 8 bytes of an integer in little-endian order, or of the UTF-8 bytes of a text. As in Spark, three
hashes are chained, so each hash is the start value of the next one: h1 = XXH64(seed, start 42), h2 = XXH64(salt, start h1), and
the result is XXH64(value, start h2). https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md defines XXH64, but calls
the start value "seed". Spark's code is in `XXH64.hashLong` and `XxHash64Function`.
"""

import hashlib
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from shared.errors import VerificationError

_SPARK_SEED = 42
_PRIME_1, _PRIME_2, _PRIME_3, _PRIME_4, _PRIME_5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)


class Salt(IntEnum):
    """The purposes of the hash keys: to sample rows, to hold out rows, to oversample rows.

    The number of the purpose is hashed with the seed, so that each purpose has different keys. If a number is changed, every
    dataset changes.
    """

    SAMPLE = 1
    HOLDOUT = 2
    OVERSAMPLING = 3


def keys(values: npt.NDArray[np.int64], seed: int, salt: Salt) -> npt.NDArray[np.int64]:
    """Return the 63-bit hash keys of integers.

    Args:
        values: shape (n,), int64.
        seed: RANDOM_SEED, a signed 64-bit integer.
        salt: the purpose of the keys, for example `Salt.SAMPLE` to choose the rows that each week loads.

    Returns:
        Shape (n,), int64, each in [0, 2**63): `xxhash64(seed, salt, value) >>> 1`.
    """
    return (
        _hash_longs(np.ascontiguousarray(values, np.int64), _salted_seed(seed, salt)) >> np.uint64(1)
    ).astype(np.int64)


def text_keys(texts: Iterable[str], seed: int, salt: Salt) -> npt.NDArray[np.int64]:
    """Return the 63-bit hash keys of texts (their UTF-8 bytes), shape (n,), int64: `xxhash64(seed, salt, text) >>> 1`."""
    chained = int(_salted_seed(seed, salt))
    digest = xxhash.xxh64_intdigest
    return np.fromiter((digest(text.encode(), chained) >> 1 for text in texts), np.int64)


def _salted_seed(seed: int, salt: Salt) -> np.uint64:
    first = _hash_longs(np.array([seed], np.int64), np.uint64(_SPARK_SEED))[0]
    return np.uint64(_hash_longs(np.array([salt], np.int64), first)[0])


def _rotate_left(values: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    return (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))


def _hash_longs(values: npt.NDArray[np.int64], seed: np.uint64) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        state = seed + _PRIME_5 + np.uint64(8)
        hashed = state ^ (_rotate_left(values.view(np.uint64) * _PRIME_2, 31) * _PRIME_1)
        hashed = _rotate_left(hashed, 27) * _PRIME_1 + _PRIME_4
        hashed = (hashed ^ (hashed >> np.uint64(33))) * _PRIME_2
        hashed = (hashed ^ (hashed >> np.uint64(29))) * _PRIME_3
        return hashed ^ (hashed >> np.uint64(32))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_sha256(path: Path, expected: str) -> None:
    """Check that the SHA-256 of a file is `expected`, which the MLflow run that logged the file has recorded.

    Raises:
        VerificationError: the SHA-256 of the file differs from `expected`.
    """
    found = sha256_of(path)
    if found != expected:
        raise VerificationError(f"{path.name} has SHA-256 {found}, but its MLflow run recorded {expected}")
