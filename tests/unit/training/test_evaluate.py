import time

import numpy as np
import pytest
from sklearn import metrics as reference

from listeners.training.evaluate import evaluate, report

OVERALL = ("accuracy", "f1_score", "precision", "recall", "f1_macro")


def predictions(n=8500, n_classes=27, correct=0.8, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.choice(np.arange(10, 3000), n_classes, replace=False).astype(np.int64)
    y_true = rng.choice(codes, n, p=rng.dirichlet(np.ones(n_classes)))
    return y_true, np.where(rng.random(n) < correct, y_true, rng.choice(codes, n))


@pytest.mark.parametrize("size", [(8500, 27), (40, 27), (1, 2)])
def test_metrics_equal_scikit_learns(size):
    y_true, y_pred = predictions(*size)

    scores = evaluate(y_true, y_pred, seed=0, n_resamples=10)

    weighted = {"average": "weighted", "zero_division": 0.0}
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(y_true, y_pred))
    assert scores["f1_score"] == pytest.approx(reference.f1_score(y_true, y_pred, **weighted))
    assert scores["precision"] == pytest.approx(reference.precision_score(y_true, y_pred, **weighted))
    assert scores["recall"] == pytest.approx(reference.recall_score(y_true, y_pred, **weighted))
    assert scores["f1_macro"] == pytest.approx(
        reference.f1_score(y_true, y_pred, average="macro", zero_division=0.0)
    )
    codes = np.union1d(y_true, y_pred)
    per_class = reference.f1_score(y_true, y_pred, labels=codes, average=None, zero_division=0.0)
    assert [scores[f"f1_class_{code}"] for code in codes] == pytest.approx(per_class)


def test_every_metric_is_a_float_that_mlflow_can_log():
    assert all(
        type(value) is float and np.isfinite(value) for value in evaluate(*predictions(50), seed=0).values()
    )


def test_intervals_agree_with_a_bootstrap_of_rows():
    y_true, y_pred = predictions(500, 5)
    rng = np.random.default_rng(1)
    draws = rng.integers(0, len(y_true), (2000, len(y_true)))
    f1 = [reference.f1_score(y_true[rows], y_pred[rows], average="weighted") for rows in draws[:400]]
    accuracy = (y_true == y_pred)[draws].mean(axis=1)

    scores = evaluate(y_true, y_pred, seed=0, n_resamples=2000)

    for name, values, tolerance in (("f1_score", f1, 0.01), ("accuracy", accuracy, 0.004)):
        interval = [scores[f"{name}_ci_low"], scores[f"{name}_ci_high"]]
        assert interval == pytest.approx(np.quantile(values, [0.025, 0.975]).tolist(), abs=tolerance)


def test_intervals_hold_their_metric_and_repeat_with_the_seed():
    y_true, y_pred = predictions()
    scores = evaluate(y_true, y_pred, seed=7)
    assert all(scores[f"{name}_ci_low"] < scores[name] < scores[f"{name}_ci_high"] for name in OVERALL)
    assert scores == evaluate(y_true, y_pred, seed=7)
    assert scores != evaluate(y_true, y_pred, seed=8)


def test_a_thousand_resamples_of_a_whole_holdout_take_under_a_second():
    y_true, y_pred = predictions()
    started = time.process_time()
    evaluate(y_true, y_pred, seed=0)
    assert time.process_time() - started < 1


def test_the_report_names_the_categories():
    text = report(np.array([2583, 10, 4]), np.array([2583, 2583, 2583]))
    assert "2583 Pools and spas" in text
    assert "10 Used books" in text
    assert "4 unknown" in text
