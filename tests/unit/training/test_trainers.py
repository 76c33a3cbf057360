"""A trainer is found by its name, and what is no trainer is named."""

import numpy as np
import pandas as pd
import pytest

from listeners.training import trainers
from listeners.training.dataset import TrainingData, training_input
from listeners.training.scores import score_holdout
from listeners.training.trainers import load_trainer
from shared.errors import OutageError


class EntryPoint:
    name = "mine"
    value = "mine:Trainer"

    def __init__(self, loaded):
        self._loaded = loaded

    def load(self):
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.fixture
def install(monkeypatch):
    return lambda loaded: monkeypatch.setattr(
        trainers, "entry_points", lambda group: [EntryPoint(loaded)] if group == "rakuten.trainers" else []
    )


@pytest.fixture
def data():
    texts = pd.DataFrame({"designation": ["piscine", "roman"] * 20, "description": ["eau", "livre"] * 20})
    return TrainingData(texts, np.arange(40), np.array([10, 40] * 20), np.ones(40, np.int64))


def test_the_default_trainer_is_installed_and_fits(data, tmp_path):
    steps = []
    given = training_input(data, seed=1, processes=1, scratch=tmp_path, progress=steps.append)
    fitted = load_trainer("linear_svm").fit(given)
    assert fitted.predict(data.products).tolist() == data.labels.tolist()
    assert (fitted.classes.tolist(), fitted.tolerance, len(fitted.digest)) == ([10, 40], 0.0, 64)
    assert fitted.metrics["converged"] == 1.0
    assert steps


def test_an_unknown_trainer_is_an_outage_and_the_remedy_names_the_known_ones():
    with pytest.raises(OutageError) as raised:
        load_trainer("frobnicate")
    assert "linear_svm" in raised.value.remedy
    assert load_trainer("linear_svm")


@pytest.mark.parametrize("loaded", [ImportError("no torch"), int])
def test_what_cannot_be_used_as_a_trainer_is_an_outage(install, loaded):
    install(loaded)
    with pytest.raises(OutageError, match="mine"):
        load_trainer("mine")


class OnlyCodes:
    """A model without probabilities."""

    classes = np.array([10, 40])
    out_of_fold = None

    def predict(self, products):
        return np.where(products["designation"] == "piscine", 10, 40)

    def predict_proba(self, _products):
        return None


def test_a_model_without_probabilities_is_scored_by_its_predictions(data):
    holdout = data.products.assign(prdtypecode=data.labels)
    scores = score_holdout(OnlyCodes(), data.labels, holdout, seed=0)
    assert scores.metrics["f1_score"] == 1.0
    assert "coverage_at_90" not in scores.metrics
    assert list(scores.frame(pd.Series(data.productids))) == ["productid", "prdtypecode", "prediction"]
