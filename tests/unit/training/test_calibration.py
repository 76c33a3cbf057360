"""Probabilities that hold for new products: fitted on products that no part of the model has seen."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from listeners.training import calibration, model
from listeners.training.calibration import FOLDS, assign_folds, calibrate, out_of_fold_scores, parts
from listeners.training.features import merge_equal_columns

CLASSES = np.array([10, 40, 60])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def products(rng, n, *, words=400, noise=0.3):
    """Products of three classes, of which some have a word of another class, or a word that no other product has."""
    labels = rng.choice(CLASSES, n, p=[0.6, 0.3, 0.1])
    spoken = np.where(rng.random(n) < noise, rng.choice(CLASSES, n), labels)
    texts = [f"mot{code}x{rng.integers(words)} sorte{code} rare{rng.integers(10**9)}" for code in spoken]
    sizes = pd.Series(labels).map(pd.Series(labels).value_counts()).to_numpy()
    return (
        pd.DataFrame({"designation": texts, "description": ["article neuf"] * n}),
        labels,
        (sizes.max() // sizes).astype(np.int64),
    )


def confidence_and_accuracy(probabilities, labels):
    return probabilities.max(axis=1).mean(), (CLASSES[probabilities.argmax(axis=1)] == labels).mean()


def test_a_fold_depends_on_the_text_and_the_seed_and_not_on_the_order():
    groups = [f"text {number}" for number in range(500)]
    folds = assign_folds(groups, seed=1)
    assert set(folds) == set(range(FOLDS))
    assert (assign_folds(groups[::-1], seed=1)[::-1] == folds).all()
    assert (assign_folds(["a", "b", "a"], seed=1)[[0]] == assign_folds(["a"], seed=1)).all()
    assert (assign_folds(groups, seed=2) != folds).any()


def test_no_prediction_changes_and_the_probabilities_add_up_to_1(rng):
    frame, labels, copies = products(rng, 300)
    pipeline = model.fit(frame, labels, copies, seed=0).pipeline
    linear, _ = parts(pipeline[-1])
    new = products(rng, 500)[0]
    np.testing.assert_array_equal(pipeline.predict(new), linear.predict(pipeline[:-1].transform(new)))
    np.testing.assert_allclose(pipeline.predict_proba(new).sum(axis=1), 1)


def test_the_probabilities_of_new_products_are_as_high_as_they_are_right(rng):
    frame, labels, copies = products(rng, 1500)
    trained = model.fit(frame, labels, copies, seed=0)
    new, truth, _ = products(rng, 4000)
    confidence, accuracy = confidence_and_accuracy(trained.pipeline.predict_proba(new), truth)
    assert abs(confidence - accuracy) < 0.03
    confidence, accuracy = confidence_and_accuracy(trained.out_of_fold, labels)
    assert abs(confidence - accuracy) < 0.03


@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "taken away"])
def test_a_product_of_the_same_text_is_not_seen(rng, grouped, monkeypatch):
    """The two products of each pair have one text and one random label. So only a model that has seen one knows the other's label."""
    labels = np.repeat(rng.choice(CLASSES, 200), 2)
    frame = pd.DataFrame(
        {
            "designation": [f"mot{row // 2} suite{row // 2}" for row in range(400)],
            "description": ["article neuf"] * 400,
        }
    )
    if not grouped:
        monkeypatch.setattr(
            calibration, "text_groups", lambda *texts: [str(row) for row in range(len(texts[0]))]
        )
    trained = model.fit(frame, labels, np.ones(400, np.int64), seed=0)
    accuracy = (CLASSES[trained.out_of_fold.argmax(axis=1)] == labels).mean()
    assert bool(accuracy < 0.5) is grouped


def test_scores_are_those_of_the_features_without_the_terms_of_the_fold(rng):
    """The shares of merged columns give what whole columns give: zero what is too rare elsewhere, scale each block to length 1."""
    sizes = [30, 50]
    base = sparse.random_array((80, 60), density=0.1, rng=rng, format="csr").toarray()
    columns = np.concatenate(
        [rng.integers(0, 60, size) for size in sizes]
    )  # many are equal, within a block and across
    features = sparse.csr_array(base[:, columns])
    labels, copies, folds = rng.choice(CLASSES, 80), rng.integers(1, 4, 80), rng.integers(0, FOLDS, 80)
    merged = merge_equal_columns(features)

    classifiers = {
        fold: LinearSVC(C=0.2, random_state=0).fit(
            merged.matrix[folds != fold], labels[folds != fold], sample_weight=copies[folds != fold]
        )
        for fold in range(FOLDS)
    }
    scores = out_of_fold_scores(merged, sizes, folds, labels, copies, classifiers=classifiers, min_df=2)
    for fold in range(FOLDS):
        inside, classifier = folds == fold, classifiers[fold]
        kept = (features[~inside].toarray() > 0).T @ copies[~inside] >= 2
        rows = features[inside].toarray() * kept
        blocks = np.hstack([normalize(block) for block in np.split(rows, np.cumsum(sizes)[:-1], axis=1)])
        expected = blocks @ (classifier.coef_[:, merged.column] * merged.scale).T + classifier.intercept_
        np.testing.assert_allclose(scores[inside], expected, atol=1e-12)


def test_two_classes_have_probabilities_too(rng):
    rows, labels = rng.normal(size=(200, 3)), np.repeat([10, 40], 100)
    rows[labels == 40] += 0.7
    linear = LinearSVC(random_state=0).fit(rows, labels)
    score = linear.decision_function(rows)[:, None]
    calibrated = calibrate(linear, np.hstack([-score, score]), labels)
    np.testing.assert_array_equal(calibrated.predict(rows), linear.predict(rows))
    np.testing.assert_allclose(
        calibrated.predict_proba(rows), calibration.probabilities(calibrated, np.hstack([-score, score]))
    )


def test_labels_that_are_no_positions_give_the_same_temperature_as_positions(rng):
    """scikit-learn takes integer labels for positions, without a check."""
    rows = rng.normal(size=(300, 4))
    positions = rng.integers(0, 3, 300)
    temperatures = []
    for labels in (positions, CLASSES[positions]):
        linear = LinearSVC(random_state=0).fit(rows, labels)
        temperatures.append(parts(calibrate(linear, linear.decision_function(rows), labels))[1])
    assert temperatures[0] == temperatures[1]


def test_products_of_a_single_text_a_class_get_equal_probabilities_out_of_fold():
    frame = pd.DataFrame({"designation": ["piscine", "roman"] * 3, "description": ["eau", "livre"] * 3})
    trained = model.fit(frame, np.array([10, 40] * 3), np.ones(6, np.int64), seed=0)
    np.testing.assert_allclose(trained.out_of_fold, 0.5)
