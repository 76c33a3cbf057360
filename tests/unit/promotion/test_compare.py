import time

import numpy as np
import pytest
from sklearn.metrics import f1_score

from listeners.promotion.compare import compare


def holdout(n=8500, n_classes=27, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(10, 10 + n_classes, dtype=np.int64)
    return rng.choice(codes, n, p=rng.dirichlet(np.ones(n_classes))), codes, rng


def spoil(y, codes, share, rng):
    return np.where(rng.random(len(y)) < share, rng.choice(codes, len(y)), y)


def test_the_difference_is_that_of_scikit_learns_weighted_f1():
    y_true, codes, rng = holdout()
    champion, challenger = spoil(y_true, codes, 0.2, rng), spoil(y_true, codes, 0.25, rng)

    comparison = compare(y_true, challenger, champion, seed=0)

    expected = f1_score(y_true, challenger, average="weighted") - f1_score(
        y_true, champion, average="weighted"
    )
    assert comparison.difference == pytest.approx(expected)
    assert comparison.ci_low < comparison.difference < comparison.ci_high
    assert comparison.n_rows == 8500


def test_a_better_challenger_is_promoted():
    y_true, codes, rng = holdout()
    comparison = compare(y_true, spoil(y_true, codes, 0.1, rng), spoil(y_true, codes, 0.2, rng), seed=0)
    assert comparison.promote
    assert comparison.ci_low > 0


def test_a_clearly_worse_challenger_is_not_promoted():
    y_true, codes, rng = holdout()
    comparison = compare(y_true, spoil(y_true, codes, 0.2, rng), spoil(y_true, codes, 0.1, rng), seed=0)
    assert not comparison.promote
    assert comparison.ci_high < 0
    assert comparison.reason.startswith("significantly worse: weighted F1 -0.")


def test_a_challenger_that_is_worse_by_noise_is_promoted():
    y_true, codes, rng = holdout(1165)
    champion = spoil(y_true, codes, 0.2, rng)
    challenger = champion.copy()
    right = np.flatnonzero(champion == y_true)[:3]
    wrong = np.flatnonzero(champion != y_true)[:2]
    challenger[right], challenger[wrong] = codes[0], y_true[wrong]

    comparison = compare(y_true, challenger, champion, seed=0)

    assert comparison.difference < 0
    assert comparison.promote


def test_identical_predictions_are_promoted_without_doubt():
    y_true, codes, rng = holdout(200)
    same = spoil(y_true, codes, 0.3, rng)
    comparison = compare(y_true, same, same, seed=0)
    assert (comparison.difference, comparison.ci_low, comparison.ci_high, comparison.p_value) == (0, 0, 0, 1)
    assert comparison.promote


def test_equally_good_models_are_refused_in_about_five_of_a_hundred_comparisons():
    refused = 0
    for seed in range(200):
        y_true, codes, rng = holdout(600, 5, seed)
        models = spoil(y_true, codes, 0.2, rng), spoil(y_true, codes, 0.2, rng)
        refused += not compare(y_true, *models, seed=seed, n_resamples=400).promote
    assert 2 <= refused <= 20


def large_and_small_classes(seed, rows=3000, small=40):
    """Class 99 has `small` rows of `rows`, the other nine the rest; both models are right on four of five rows."""
    rng = np.random.default_rng(seed)
    codes = np.array([*range(10, 19), 99], np.int64)
    y_true = np.concatenate([rng.choice(codes[:-1], rows - small), np.full(small, 99)])
    champion = spoil(y_true, codes, 0.2, rng)
    challenger = np.where(rng.random(rows) < 0.05, spoil(y_true, codes, 0.2, rng), champion)
    return y_true, champion, challenger, codes, rng


def test_a_small_class_that_collapses_blocks_a_model_that_is_better_as_a_whole():
    y_true, champion, challenger, _codes, _rng = large_and_small_classes(0)
    mended = np.flatnonzero((challenger != y_true) & (y_true != 99))[:80]
    challenger[mended] = y_true[mended]
    assert compare(y_true, challenger, champion, seed=0).promote
    challenger[y_true == 99] = 10

    comparison = compare(y_true, challenger, champion, seed=0)

    assert comparison.difference > 0
    assert not comparison.promote
    assert comparison.blocked_by == (99,)
    assert comparison.reason.startswith("not significantly worse: ")
    assert "; class 99 (unknown) is significantly worse: F1 0." in comparison.reason
    assert "to 0.000 on 40 rows" in comparison.reason


def test_most_falls_of_a_small_class_by_half_are_found():
    """Simulated: of 40 rows half are lost. Of 27 classes of real size: 40 of 100 rows lost of 74, found in all of 60 trials."""
    found = 0
    for seed in range(40):
        y_true, champion, challenger, codes, rng = large_and_small_classes(seed)
        lost = (y_true == 99) & (rng.random(len(y_true)) < 0.5)
        challenger[lost] = rng.choice(codes[:-1], lost.sum())
        found += compare(y_true, challenger, champion, seed=seed, n_resamples=400).blocked_by == (99,)
    assert found >= 32


def test_noise_alone_makes_the_floor_refuse_at_most_five_of_a_hundred_equally_good_models():
    """27 classes of which the smallest has some ten rows. The bound leaves room for chance: 17 and more of 200 is one in 100."""
    blocked = 0
    for seed in range(200):
        y_true, codes, rng = holdout(1165, seed=seed)
        champion = spoil(y_true, codes, 0.2, rng)
        challenger = np.where(rng.random(len(y_true)) < 0.3, spoil(y_true, codes, 0.2, rng), champion)
        blocked += bool(compare(y_true, challenger, champion, seed=seed, n_resamples=200).blocked_by)
    assert blocked <= 17


def test_a_loss_that_is_certain_but_small_blocks_nothing():
    y_true = np.repeat(np.array([10, 40], np.int64), 5000)
    champion, challenger = y_true.copy(), y_true.copy()
    challenger[:200], champion[5000:5300] = 40, 10  # class 10 loses 200 rows for certain, class 40 gains 300
    comparison = compare(y_true, challenger, champion, seed=0)
    assert comparison.promote
    assert min(entry.p_value for entry in comparison.classes) > 0.05
    challenger[:200], champion[5000:5300] = 40, 40
    [first, _second] = compare(y_true, challenger, champion, seed=0).classes
    assert first.p_value < 0.001
    assert compare(y_true, challenger, champion, seed=0).blocked_by == ()


def test_a_class_of_four_rows_cannot_block_whatever_becomes_of_it():
    y_true = np.array([10] * 400 + [40] * 4, np.int64)
    comparison = compare(y_true, np.full(404, 10), y_true, seed=0, n_resamples=4000)
    assert comparison.blocked_by == ()
    assert comparison.classes[1].challenger_f1 == 0


def test_the_floor_s_p_values_are_those_of_all_permutations():
    """Ten rows, all 1,024 ways to swap, by scikit-learn's F1."""
    y_true = np.array([1, 1, 1, 1, 1, 1, 2, 2, 2, 3])
    challenger = np.array([1, 2, 2, 2, 2, 3, 2, 2, 1, 1])
    champion = np.array([1, 1, 1, 1, 1, 2, 2, 3, 2, 3])

    def difference(swap):
        ours, theirs = np.where(swap, champion, challenger), np.where(swap, challenger, champion)
        return f1_score(y_true, ours, average=None, zero_division=0) - f1_score(
            y_true, theirs, average=None, zero_division=0
        )

    every = np.array([difference((swaps >> np.arange(10)) & 1) for swaps in range(1024)])
    worst = (every / every.std(axis=0)).min(axis=1)
    expected = [(worst <= observed + 1e-9).mean() for observed in every[0] / every.std(axis=0)]

    found = compare(y_true, challenger, champion, seed=0, n_resamples=20_000)

    assert [entry.p_value for entry in found.classes] == pytest.approx(expected, abs=0.015)


def test_every_class_of_the_holdout_is_listed_with_both_f1_and_no_other():
    y_true, codes, rng = holdout(500, 5)
    champion, challenger = spoil(y_true, codes, 0.2, rng), spoil(y_true, codes, 0.2, rng)
    challenger[:10] = 7  # a class that no row has
    comparison = compare(y_true, challenger, champion, seed=0)
    assert [entry.prdtypecode for entry in comparison.classes] == codes.tolist()
    assert sum(entry.rows for entry in comparison.classes) == 500
    for models, name in ((champion, "champion_f1"), (challenger, "challenger_f1")):
        expected = f1_score(y_true, models, labels=codes, average=None)
        assert [getattr(entry, name) for entry in comparison.classes] == pytest.approx(expected)


def test_a_stricter_significance_refuses_less():
    y_true, codes, rng = holdout(1165)
    champion = spoil(y_true, codes, 0.2, rng)
    right = np.flatnonzero(champion == y_true)[:12]
    challenger = champion.copy()
    challenger[right] = np.where(y_true[right] == codes[0], codes[1], codes[0])
    challenger[np.flatnonzero(champion != y_true)[:3]] = y_true[champion != y_true][:3]
    assert not compare(y_true, challenger, champion, seed=0).promote
    assert compare(y_true, challenger, champion, seed=0, significance=0.05 / 70).promote


def test_the_verdict_repeats_with_the_seed_and_takes_under_a_second():
    y_true, codes, rng = holdout()
    champion, challenger = spoil(y_true, codes, 0.2, rng), spoil(y_true, codes, 0.2, rng)
    started = time.process_time()
    first = compare(y_true, challenger, champion, seed=3)
    assert time.process_time() - started < 1
    assert first == compare(y_true, challenger, champion, seed=3)


@pytest.mark.parametrize("lengths", [(3, 2, 3), (3, 3, 2), (0, 0, 0)])
def test_arrays_that_cannot_be_paired_are_refused(lengths):
    with pytest.raises(ValueError, match="must have the same length"):
        compare(*(np.ones(n, np.int64) for n in lengths), seed=0)
