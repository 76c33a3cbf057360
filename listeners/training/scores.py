"""Score a model on the fixed sets: its predictions, its probabilities, and which of them can be trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from listeners.training.confidence import ACCURACY_TARGETS, confidence_metrics, coverage, ranked, threshold
from listeners.training.evaluate import Codes, evaluate, overall_scores
from listeners.training.model import Trained


@dataclass(frozen=True)
class HoldoutScores:
    """What a model says about each holdout row, and what follows from it.

    Attributes:
        truth: prdtypecode of each row, shape (n,), int64.
        likeliest: the three likeliest classes of each row, likeliest first, shape (n, 3), int64. The first is the prediction.
        probabilities: the probabilities of these classes, shape (n, 3), float64.
        metrics: for MLflow.
        coverage: for each accuracy target, its threshold and what it accepts; see `confidence.coverage`.
    """

    truth: Codes
    likeliest: Codes
    probabilities: npt.NDArray[np.float64]
    metrics: dict[str, float]
    coverage: list[dict[str, Any]]

    @property
    def prediction(self) -> Codes:
        return self.likeliest[:, 0]

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        return self.probabilities[:, 0]

    def frame(self, productids: "pd.Series[int]") -> pd.DataFrame:
        """Return one row per holdout row: product, true class, prediction, probability, margin, and the next two classes.

        The margin is the difference between the probabilities of the two likeliest classes.
        """
        columns = {
            "productid": productids,
            "prdtypecode": self.truth,
            "prediction": self.prediction,
            "probability": self.confidence,
            "margin": self.confidence - self.probabilities[:, 1],
        }
        for place in range(1, self.likeliest.shape[1]):
            columns[f"prediction_{place + 1}"] = self.likeliest[:, place]
            columns[f"probability_{place + 1}"] = self.probabilities[:, place]
        return pd.DataFrame(columns)


def score_holdout(trained: Trained, labels: Codes, holdout: pd.DataFrame, *, seed: int) -> HoldoutScores:
    """Predict the holdout, and measure the predictions and their probabilities.

    The thresholds come from the out-of-fold probabilities of the training products alone, so the holdout says how good they are.

    Args:
        trained: the model.
        labels: prdtypecode of each training product, shape (n_products,), int64.
        holdout: the holdout set, with the text columns and prdtypecode.
        seed: seed of the bootstrap of the intervals.
    """
    truth = holdout["prdtypecode"].to_numpy().astype(np.int64)
    classes = trained.pipeline[-1].classes_
    probabilities = trained.pipeline.predict_proba(holdout)
    likeliest, values = ranked(probabilities, classes)
    guesses, confidence = ranked(trained.out_of_fold, classes, 1)
    is_right = guesses[:, 0] == labels
    limits = {target: threshold(confidence[:, 0], is_right, target) for target in ACCURACY_TARGETS}
    accepted = coverage(limits, truth, likeliest[:, 0], values[:, 0])
    metrics = {
        **evaluate(truth, likeliest[:, 0], seed=seed),
        **confidence_metrics(truth, probabilities, classes),
        **{f"coverage_at_{entry['target']:.0%}".rstrip("%"): entry["coverage"] for entry in accepted},
    }
    return HoldoutScores(truth, likeliest, values, metrics, accepted)


def score_test_set(pipeline: Pipeline, test: pd.DataFrame) -> tuple[Codes, dict[str, float]]:
    """Predict the test set. Return the predictions, shape (n,), int64, and their metrics, whose names begin with `test_`.

    The challenge publishes no labels of its test set. Without labels, there are no metrics. No decision uses these metrics.
    """
    prediction: Codes = pipeline.predict(test)
    if "prdtypecode" not in test:
        return prediction, {}
    scores = overall_scores(test["prdtypecode"].to_numpy().astype(np.int64), prediction)
    return prediction, {f"test_{name}": value for name, value in scores.items()}
