import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imblearn.over_sampling import RandomOverSampler

from listeners.snapshot.balance import HashOverSampler, multiplicities

classes_of_rows = st.lists(st.integers(0, 5), min_size=1, max_size=200)


def ids(count, seed=0):
    return np.random.default_rng(seed).choice(10**9, count, replace=False).astype(np.int64)


def balanced_counts(labels, copies):
    return {int(code): int(copies[labels == code].sum()) for code in np.unique(labels)}


@given(classes_of_rows)
def test_every_class_reaches_the_largest_and_every_original_is_kept(rows):
    labels = np.array(rows, np.int32)
    copies = multiplicities(ids(len(rows)), labels, 42)
    largest = np.bincount(labels).max()
    assert set(balanced_counts(labels, copies).values()) == {largest}
    assert copies.min() >= 1


@given(classes_of_rows)
def test_copies_are_spread_evenly(rows):
    labels = np.array(rows, np.int32)
    copies = multiplicities(ids(len(rows)), labels, 42)
    assert all(np.ptp(copies[labels == code]) <= 1 for code in np.unique(labels))


@given(classes_of_rows, st.randoms(use_true_random=False))
def test_the_draw_does_not_depend_on_the_order_of_the_rows(rows, random):
    labels, productids = np.array(rows, np.int32), ids(len(rows))
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = multiplicities(productids[order], labels[order], 42)
    assert np.array_equal(shuffled, multiplicities(productids, labels, 42)[order])


def test_another_seed_draws_other_rows():
    labels = np.array([1] * 100 + [2] * 70, np.int32)
    assert not np.array_equal(multiplicities(ids(170), labels, 1), multiplicities(ids(170), labels, 2))


@given(classes_of_rows.filter(lambda rows: len(set(rows)) > 1))
def test_class_counts_are_those_of_random_over_sampler(rows):
    labels, productids = np.array(rows, np.int32), ids(len(rows)).reshape(-1, 1)
    _, theirs = RandomOverSampler(random_state=0).fit_resample(productids, labels)
    sampler = HashOverSampler(random_seed=42)
    resampled, ours = sampler.fit_resample(productids, labels)
    assert sorted(ours) == sorted(theirs)
    assert np.array_equal(resampled.ravel(), productids.ravel()[sampler.sample_indices_])
    assert np.array_equal(sampler.sample_indices_, np.sort(sampler.sample_indices_))


def test_no_rows_give_no_copies():
    assert multiplicities(np.empty(0, np.int64), np.empty(0, np.int32), 42).shape == (0,)


@pytest.mark.parametrize("classes", [{7: 5}, {7: 5, 8: 5}])
def test_what_is_balanced_already_stays_as_it_is(classes):
    labels = np.repeat(list(classes), list(classes.values())).astype(np.int32)
    assert multiplicities(ids(len(labels)), labels, 42).tolist() == [1] * len(labels)
