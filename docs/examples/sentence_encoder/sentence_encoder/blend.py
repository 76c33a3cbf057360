"""Predict with a sentence encoder beside the default model. MLflow stores this file with the model, and runs it to load the model."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from tokenizers import Tokenizer

_BATCH = 64
_MAX_TOKENS = 128


class Encoder:
    """An ONNX sentence encoder in a folder: model.onnx and tokenizer.json, for example multilingual-e5-small."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.enable_padding()
        self._session = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def encode(self, products: pd.DataFrame) -> np.ndarray:
        """Return the mean of the token embeddings of each product's texts, scaled to length 1, shape (n, dimensions), float64."""
        texts = products.reindex(columns=["designation", "description"]).fillna("").astype(str)
        joined = ("query: " + texts["designation"] + " " + texts["description"]).tolist()
        means = [self._means(joined[first : first + _BATCH]) for first in range(0, len(joined), _BATCH)]
        return np.vstack(means) / np.linalg.norm(np.vstack(means), axis=1, keepdims=True)

    def _means(self, texts: list[str]) -> np.ndarray:
        encoded = self._tokenizer.encode_batch(texts)
        given = {
            "input_ids": np.array([text.ids for text in encoded], np.int64),
            "attention_mask": np.array([text.attention_mask for text in encoded], np.int64),
            "token_type_ids": np.array([text.type_ids for text in encoded], np.int64),
        }
        wanted = {node.name for node in self._session.get_inputs()}
        [tokens, *_] = self._session.run(None, {name: given[name] for name in wanted})
        mask = given["attention_mask"][:, :, None]
        return (tokens.astype(np.float64) * mask).sum(axis=1) / mask.sum(axis=1)


def features(probabilities: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Return the input of the logistic regression, shape (n, n_classes + dimensions), float64."""
    return np.hstack([np.log(np.maximum(probabilities, 1e-9)), embeddings])


class Blend(mlflow.pyfunc.PythonModel):
    """What `mlflow.pyfunc.load_model` returns."""

    def load_context(self, context: Any) -> None:
        self._encoder = Encoder(Path(context.artifacts["encoder"]))
        self._base = mlflow.sklearn.load_model(context.artifacts["base"])
        self._classifier = mlflow.sklearn.load_model(context.artifacts["classifier"])

    def predict(self, model_input: pd.DataFrame) -> np.ndarray:
        probabilities = self._base.predict_proba(model_input)
        return self._classifier.predict(features(probabilities, self._encoder.encode(model_input)))


mlflow.models.set_model(Blend())
