"""How far probabilities can be trusted, on cases that can be counted by hand."""

import numpy as np
import pytest

from listeners.training.confidence import confidence_metrics, coverage, ranked, threshold

CLASSES = np.array([10, 40, 60, 80])


def test_the_likeliest_classes_come_first_and_of_equal_ones_the_lower_code():
    codes, values = ranked(np.array([[0.1, 0.2, 0.6, 0.1], [0.25, 0.25, 0.25, 0.25]]), CLASSES)
    assert codes.tolist() == [[60, 40, 10], [10, 40, 60]]
    np.testing.assert_array_equal(values[0], [0.6, 0.2, 0.1])


def test_probabilities_that_hold_have_no_calibration_error():
    probabilities = np.tile([0.75, 0.25, 0, 0], (400, 1))
    truth = np.repeat([10, 10, 10, 40], 100)
    metrics = confidence_metrics(truth, probabilities, CLASSES)
    assert metrics["expected_calibration_error"] == pytest.approx(0)
    assert (metrics["mean_confidence"], metrics["top_3_accuracy"]) == (0.75, 1.0)


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    probabilities = np.array([[0.95, 0.05, 0, 0]] * 3 + [[0.55, 0.45, 0, 0]])
    metrics = confidence_metrics(np.array([10, 10, 40, 40]), probabilities, CLASSES)
    assert metrics["expected_calibration_error"] == pytest.approx((3 * abs(0.95 - 2 / 3) + 0.55) / 4)


def test_the_threshold_is_the_lowest_that_reaches_the_accuracy():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, True, False, True, False])
    assert threshold(confidence, correct, 1.0) == 0.8
    assert threshold(confidence, correct, 0.75) == 0.6
    assert threshold(confidence, correct, 0.1) == 0.5
    assert threshold(confidence, ~correct, 0.9) is None


def test_predictions_of_one_confidence_are_accepted_together():
    assert threshold(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]), 0.9) is None


def test_coverage_counts_what_reaches_the_threshold_also_for_each_predicted_class():
    truth, prediction = np.array([10, 10, 40, 40]), np.array([10, 40, 40, 40])
    [entry, unreachable] = coverage({0.9: 0.6, 0.99: None}, truth, prediction, np.array([0.9, 0.7, 0.6, 0.2]))
    assert (entry["rows"], entry["coverage"], entry["accuracy"]) == (4, 0.75, pytest.approx(2 / 3))
    assert entry["accuracy_ci_low"] < 2 / 3 < entry["accuracy_ci_high"]
    assert entry["classes"]["40"]["coverage"] == pytest.approx(2 / 3)
    assert entry["classes"]["40"]["accuracy"] == 0.5
    assert (unreachable["coverage"], unreachable["accuracy"]) == (0.0, None)
