"""Train the default model and, on top of its probabilities and of sentence embeddings, a logistic regression."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from listeners.training.linear_svm import LinearSvm, LinearSvmTrainer
from listeners.training.serialise import PIP_REQUIREMENTS, input_example, signature
from listeners.training.trainers import TrainingInput
from sentence_encoder import blend


class SentenceEncoderTrainer:
    """Reads the folder of an encoder, with model.onnx and tokenizer.json, from the environment variable SENTENCE_ENCODER."""

    def fit(self, data: TrainingInput) -> "SentenceEncoderModel":
        base = LinearSvmTrainer().fit(data)
        data.progress("encoding the texts")
        folder = Path(os.environ["SENTENCE_ENCODER"])
        features = blend.features(base.out_of_fold, blend.Encoder(folder).encode(data.products))
        classifier = LogisticRegression(C=0.01, max_iter=1000)
        weights = {"sample_weight": data.multiplicities}
        folds = PredefinedSplit(data.folds)
        out_of_fold = cross_val_predict(
            classifier, features, data.labels, cv=folds, params=weights, method="predict_proba"
        )
        return SentenceEncoderModel(
            folder, base, classifier.fit(features, data.labels, **weights), out_of_fold
        )


@dataclass(frozen=True)
class SentenceEncoderModel:
    """The fitted model. Other processors may round embeddings differently, so it has no digest but a tolerance."""

    folder: Path
    base: LinearSvm
    classifier: LogisticRegression
    out_of_fold: np.ndarray
    digest: None = None
    tolerance: float = 0.01

    @property
    def classes(self) -> np.ndarray:
        return self.classifier.classes_

    @property
    def hyperparameters(self) -> dict[str, str | int | float]:
        return {**self.base.hyperparameters, "encoder": self.folder.name, "blend_c": self.classifier.C}

    @property
    def metrics(self) -> dict[str, float]:
        return {"converged": float(self.classifier.n_iter_.max() < self.classifier.max_iter)}

    def predict(self, products: pd.DataFrame) -> np.ndarray:
        return self.classes[self.predict_proba(products).argmax(axis=1)]

    def predict_proba(self, products: pd.DataFrame) -> np.ndarray:
        embeddings = blend.Encoder(self.folder).encode(products)
        return self.classifier.predict_proba(blend.features(self.base.predict_proba(products), embeddings))

    def log(self, run_id: str) -> str:
        """Log the encoder's files, two models without pickle, and the file blend.py, which predicts with them."""
        mlflow.set_experiment(experiment_id=mlflow.get_run(run_id).info.experiment_id)
        packages = [f"{name}=={version(name)}" for name in ("onnxruntime", "tokenizers")]
        with TemporaryDirectory() as scratch:
            artifacts = {
                "encoder": str(self.folder),
                "base": f"{scratch}/base",
                "classifier": f"{scratch}/classifier",
            }
            self.base.save(Path(artifacts["base"]))
            mlflow.sklearn.save_model(self.classifier, artifacts["classifier"], serialization_format="skops")
            info = Model.log(  # mlflow.pyfunc.log_model knows only the active run
                artifact_path=None,
                name="model",
                flavor=mlflow.pyfunc,
                run_id=run_id,
                python_model=blend.__file__,
                artifacts=artifacts,
                signature=signature(),
                input_example=input_example(),
                pip_requirements=[*PIP_REQUIREMENTS, *packages],
            )
        return info.model_uri
