"""Score a model on the fixed sets: its predictions, its probabilities, and which of them can be trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from listeners.training.confidence import ACCURACY_TARGETS, confidence_metrics, coverage, ranked, threshold
from listeners.training.evaluate import Codes, evaluate, overall_scores
from listeners.training.trainers import FittedModel


@dataclass(frozen=True)
class HoldoutScores:
    """What a model says about each holdout row, and what follows from it.

    Attributes:
        truth: prdtypecode of each row, shape (n,), int64.
        prediction: predicted prdtypecode of each row, shape (n,), int64.
        ranks: the three likeliest classes of each row and their probabilities, likeliest first, each of shape (n, 3). None if the
            model has no probabilities.
        metrics: for MLflow.
        coverage: for each accuracy target, its threshold and what it accepts; see `confidence.coverage`. Empty without out-of-fold
            probabilities.
    """

    truth: Codes
    prediction: Codes
    ranks: tuple[Codes, npt.NDArray[np.float64]] | None
    metrics: dict[str, float]
    coverage: list[dict[str, Any]]

    @property
    def confidence(self) -> npt.NDArray[np.float64] | None:
        return None if self.ranks is None else self.ranks[1][:, 0]

    def frame(self, productids: "pd.Series[int]") -> pd.DataFrame:
        """Return one row per holdout row: product, true class, prediction and, if there are probabilities, what they say.

        The margin is the difference between the probabilities of the two likeliest classes.
        """
        frame = pd.DataFrame(
            {"productid": productids, "prdtypecode": self.truth, "prediction": self.prediction}
        )
        if self.ranks is not None:
            codes, probabilities = self.ranks
            frame["probability"] = probabilities[:, 0]
            frame["margin"] = probabilities[:, 0] - probabilities[:, 1]
            for place in range(1, codes.shape[1]):
                frame[f"prediction_{place + 1}"] = codes[:, place]
                frame[f"probability_{place + 1}"] = probabilities[:, place]
        return frame


def score_holdout(model: FittedModel, labels: Codes, holdout: pd.DataFrame, *, seed: int) -> HoldoutScores:
    """Predict the holdout, and measure the predictions and their probabilities.

    The thresholds come from the out-of-fold probabilities of the training products alone, so the holdout says how good they are.

    Args:
        model: the fitted model.
        labels: prdtypecode of each training product, shape (n_products,), int64.
        holdout: the holdout set, with the text columns and prdtypecode.
        seed: seed of the bootstrap of the intervals.
    """
    truth = holdout["prdtypecode"].to_numpy().astype(np.int64)
    probabilities = model.predict_proba(holdout)
    if probabilities is None:
        prediction = model.predict(holdout)
        return HoldoutScores(truth, prediction, None, evaluate(truth, prediction, seed=seed), [])
    ranks = ranked(probabilities, model.classes)
    prediction = ranks[0][:, 0]
    metrics = evaluate(truth, prediction, seed=seed) | confidence_metrics(truth, probabilities, model.classes)
    accepted = coverage(_thresholds(model, labels), truth, prediction, ranks[1][:, 0])
    metrics |= {f"coverage_at_{100 * entry['target']:.0f}": entry["coverage"] for entry in accepted}
    return HoldoutScores(truth, prediction, ranks, metrics, accepted)


def _thresholds(model: FittedModel, labels: Codes) -> dict[float, float | None]:
    """Return the threshold of each accuracy target, or nothing if the model has no out-of-fold probabilities."""
    if model.out_of_fold is None:
        return {}
    guesses, confidence = ranked(model.out_of_fold, model.classes, 1)
    is_right = guesses[:, 0] == labels
    return {target: threshold(confidence[:, 0], is_right, target) for target in ACCURACY_TARGETS}


def score_test_set(model: FittedModel, test: pd.DataFrame) -> tuple[Codes, dict[str, float]]:
    """Predict the test set. Return the predictions, shape (n,), int64, and their metrics, whose names begin with `test_`.

    The challenge publishes no labels of its test set. Without labels, there are no metrics. No decision uses these metrics.
    """
    prediction = model.predict(test)
    if "prdtypecode" not in test:
        return prediction, {}
    scores = overall_scores(test["prdtypecode"].to_numpy().astype(np.int64), prediction)
    return prediction, {f"test_{name}": value for name, value in scores.items()}
