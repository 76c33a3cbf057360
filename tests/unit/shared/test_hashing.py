"""The keys are Spark's `xxhash64(seed, salt, value) >>> 1`: python-xxhash, chained value by value, is the oracle."""

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from shared.hashing import Salt, keys, text_keys

SPARK_SEED = 42
LOWEST, HIGHEST = -(2**63), 2**63 - 1

int64s = st.integers(LOWEST, HIGHEST)
salts = st.sampled_from(Salt)


def chained(*values: int) -> int:
    digest = SPARK_SEED
    for value in values:
        digest = xxhash.xxh64_intdigest(value.to_bytes(8, "little", signed=True), digest)
    return digest


@given(st.lists(int64s), int64s, salts)
def test_keys_equal_chained_xxhash64(values, seed, salt):
    assert keys(np.array(values, np.int64), seed, salt).tolist() == [
        chained(seed, salt, value) >> 1 for value in values
    ]


@given(st.lists(st.text()), int64s, salts)
def test_text_keys_equal_chained_xxhash64_of_the_utf8_bytes(texts, seed, salt):
    chain = chained(seed, salt)
    assert text_keys(texts, seed, salt).tolist() == [
        xxhash.xxh64_intdigest(text.encode(), chain) >> 1 for text in texts
    ]


@pytest.mark.parametrize("value", [LOWEST, -1, 0, 1, HIGHEST])
@pytest.mark.parametrize("seed", [LOWEST, -1, 0, 42, HIGHEST])
def test_keys_of_extremes_are_63_bit_and_right(value, seed):
    (key,) = keys(np.array([value], np.int64), seed, Salt.SAMPLE).tolist()
    assert 0 <= key < 2**63
    assert key == chained(seed, Salt.SAMPLE, value) >> 1


def test_a_key_never_changes():
    # Written down once: a change here would change every dataset that was ever built.
    assert keys(np.array([-5, 0, 4_200_000_000], np.int64), 42, Salt.SAMPLE).tolist() == [
        1_127_019_308_982_402_792,
        2_042_810_536_014_380_808,
        6_923_412_840_754_629_156,
    ]


def test_no_values_have_no_keys():
    assert keys(np.array([], np.int64), 42, Salt.SAMPLE).shape == (0,)
    assert text_keys([], 42, Salt.HOLDOUT).shape == (0,)


def test_keys_do_not_depend_on_the_memory_layout():
    values = np.arange(100, dtype=np.int64)
    assert np.array_equal(keys(values[::3], 42, Salt.SAMPLE), keys(values, 42, Salt.SAMPLE)[::3])


@pytest.mark.parametrize(
    ("one", "other"),
    [(Salt.SAMPLE, Salt.HOLDOUT), (Salt.SAMPLE, Salt.OVERSAMPLING), (Salt.HOLDOUT, Salt.OVERSAMPLING)],
)
def test_salts_make_independent_choices(one, other):
    values = np.arange(100_000, dtype=np.int64)
    correlation = np.corrcoef(keys(values, 42, one), keys(values, 42, other))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(len(values))


def test_seeds_make_independent_choices():
    values = np.arange(100_000, dtype=np.int64)
    correlation = np.corrcoef(keys(values, 42, Salt.SAMPLE), keys(values, 43, Salt.SAMPLE))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(len(values))


def test_keys_fill_their_range_evenly():
    counts = np.bincount(keys(np.arange(100_000, dtype=np.int64), 42, Salt.HOLDOUT) % 100, minlength=100)
    assert counts.min() > 850
    assert counts.max() < 1150
