"""The default trainer: a linear SVM on TF-IDF features, with calibrated probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from listeners.training import model
from listeners.training.calibration import parts
from listeners.training.model import Trained
from listeners.training.serialise import log_model, save_model
from listeners.training.trainers import TrainingInput


class LinearSvmTrainer:
    """Fits `listeners.training.model`."""

    def fit(self, data: TrainingInput) -> "LinearSvm":
        data.progress("fitting the linear SVM")
        trained = model.fit(
            data.products,
            data.labels,
            data.multiplicities,
            seed=data.seed,
            folds=data.folds,
            processes=data.processes,
        )
        return LinearSvm(trained)


@dataclass(frozen=True)
class LinearSvm:
    """A fitted model, as the training stage wants it (`trainers.FittedModel`)."""

    trained: Trained
    tolerance: float = 0.0

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        classes: npt.NDArray[np.int64] = self.trained.pipeline[-1].classes_
        return classes

    @property
    def hyperparameters(self) -> Mapping[str, str | int | float]:
        return model.DEFAULTS.as_params()

    @property
    def out_of_fold(self) -> npt.NDArray[np.float64]:
        return self.trained.out_of_fold

    @property
    def digest(self) -> str:
        return model.parameters_sha256(self.trained.pipeline)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return the most iterations that liblinear needed for a class, and whether it needed fewer than `svm_max_iter`."""
        classifier, _ = parts(self.trained.pipeline[-1])
        converged = classifier.n_iter_ < classifier.max_iter
        return {"svm_iterations": float(classifier.n_iter_), "converged": float(converged)}

    def predict(self, products: pd.DataFrame) -> npt.NDArray[np.int64]:
        codes: npt.NDArray[np.int64] = self.trained.pipeline.predict(products)
        return codes

    def predict_proba(self, products: pd.DataFrame) -> npt.NDArray[np.float64]:
        probabilities: npt.NDArray[np.float64] = self.trained.pipeline.predict_proba(products)
        return probabilities

    def log(self, run_id: str) -> str:
        return log_model(run_id, self.trained.pipeline)

    def save(self, folder: Path) -> None:
        """Write the model into a new folder, from which `mlflow.sklearn.load_model` loads it."""
        save_model(folder, self.trained.pipeline)
