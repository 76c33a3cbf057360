"""The same classifiers, bit for bit, for any number of processes."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.svm import LinearSVC

from listeners.training.class_fits import EVERYTHING, Problem, fit_classes, suitable_processes

OPTIONS = LinearSVC(C=0.2, tol=1e-6, max_iter=20_000, random_state=7).get_params()


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    rows, labels = sparse.random_array((300, 40), density=0.2, rng=rng, format="csr"), rng.integers(0, 4, 300)
    rows.data += labels[np.repeat(np.arange(300), np.diff(rows.indptr))] * 0.5
    return Problem(rows, 10 * labels + 10, rng.integers(1, 5, 300), rng.integers(0, 3, 300), OPTIONS)


def test_any_number_of_processes_gives_the_same_bits(problem):
    alone, *together = (fit_classes(problem, processes=processes) for processes in (1, 2, 3))
    assert list(alone) == [EVERYTHING, 0, 1, 2]
    for found in together:
        for fold, classifier in alone.items():
            assert found[fold].coef_.tobytes() == classifier.coef_.tobytes()
            assert found[fold].intercept_.tobytes() == classifier.intercept_.tobytes()


def test_each_fit_is_the_fit_of_all_classes_at_once_on_its_rows(problem):
    for fold, classifier in fit_classes(problem, processes=1).items():
        rows = problem.folds != fold
        whole = LinearSVC(**OPTIONS).fit(
            problem.matrix[rows], problem.labels[rows], sample_weight=problem.weights[rows]
        )
        np.testing.assert_allclose(classifier.coef_, whole.coef_, atol=1e-4)
        np.testing.assert_array_equal(classifier.predict(problem.matrix), whole.predict(problem.matrix))


def test_two_classes_and_a_fold_that_holds_all_of_a_class(problem):
    labels = np.where(problem.folds == 1, 40, 10)  # without fold 1, one class is left
    found = fit_classes(Problem(problem.matrix, labels, problem.weights, problem.folds, OPTIONS), processes=2)
    assert list(found) == [EVERYTHING, 0, 2]
    assert found[EVERYTHING].coef_.shape == (1, 40)
    whole = LinearSVC(**OPTIONS).fit(problem.matrix, labels, sample_weight=problem.weights)
    np.testing.assert_array_equal(found[EVERYTHING].predict(problem.matrix), whole.predict(problem.matrix))


def test_a_process_that_is_killed_ends_the_fit(problem, monkeypatch):
    monkeypatch.setattr("listeners.training.class_fits.sys.executable", "false")
    with pytest.raises(MemoryError, match="exit code 1"):
        fit_classes(problem, processes=2)


def test_few_features_are_fitted_by_one_process(problem):
    assert suitable_processes(problem.matrix) == 1
