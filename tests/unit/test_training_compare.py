import time

import numpy as np
import pytest
from sklearn.metrics import f1_score

from listeners.training.compare import compare


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


def test_the_verdict_repeats_with_the_seed_and_takes_under_a_second():
    y_true, codes, rng = holdout()
    champion, challenger = spoil(y_true, codes, 0.2, rng), spoil(y_true, codes, 0.2, rng)
    started = time.process_time()
    first = compare(y_true, challenger, champion, seed=3)
    assert time.process_time() - started < 1
    assert first == compare(y_true, challenger, champion, seed=3)


@pytest.mark.parametrize("lengths", [(3, 2, 3), (3, 3, 2), (0, 0, 0)])
def test_arrays_that_cannot_be_paired_are_refused(lengths):
    with pytest.raises(ValueError, match="as many predictions"):
        compare(*(np.ones(n, np.int64) for n in lengths), seed=0)
