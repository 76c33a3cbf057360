"""Serialise a fitted model in the skops format, and log it to MLflow.

A pickle file can contain code, which runs when somebody loads the file. A skops file contains no code.
"""

import importlib.metadata
from pathlib import Path
from typing import Any, Final

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from sklearn.pipeline import Pipeline

from listeners.training.text import TEXT_COLUMNS, text_cleaner
from shared.mlflow_names import Artifact

# The types and functions in our models that skops does not trust by default. Without this list, skops refuses to load a model.
# The list is safe: even a manipulated model file cannot use these types and functions to call another method or to evaluate an
# expression (tested in tests/security/test_models.py).
SKOPS_TRUSTED_TYPES: Final = (
    "builtins.dict",
    "functools.partial",
    "html.unescape",
    "numpy.dtype",
    "numpy.vectorize",
    "operator.itemgetter",
    "pandas.DataFrame",
    "re.sub",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.feature_extraction.text.strip_accents_unicode",
)

# The packages that a prediction needs, with their installed versions. They become the model's requirements in MLflow; MLflow
# itself adds the package mlflow.
PIP_REQUIREMENTS: Final = tuple(
    f"{name}=={importlib.metadata.version(name)}"
    for name in ("numpy", "pandas", "scikit-learn", "scipy", "skops")
)


def log_model(run_id: str, classifier: Pipeline) -> str:
    """Log the fitted model `classifier` to the MLflow run `run_id` in the skops format, and return the model's URI.

    skops loads a model only if it trusts all types in the model. `SKOPS_TRUSTED_TYPES` lists those types in our models that
    skops does not trust by default.
    """
    # This call makes MLflow store the model with the artifacts of the run's experiment. Without the call, MLflow would store the
    # model in its default experiment, in the folder ./mlruns.
    mlflow.set_experiment(experiment_id=mlflow.get_run(run_id).info.experiment_id)
    info = mlflow.sklearn.log_model(
        without_caches(classifier), name=Artifact.MODEL, run_id=run_id, **_how_to_save()
    )
    return str(info.model_uri)


def save_model(folder: Path, classifier: Pipeline) -> None:
    """Write the fitted model `classifier` into a new folder, as `log_model` would log it: for a trainer that builds on this model."""
    mlflow.sklearn.save_model(without_caches(classifier), folder, **_how_to_save())


def _how_to_save() -> dict[str, Any]:
    return {
        "serialization_format": "skops",
        "skops_trusted_types": list(SKOPS_TRUSTED_TYPES),
        "signature": signature(),
        "input_example": input_example(),
        "pip_requirements": list(PIP_REQUIREMENTS),
    }


def without_caches(classifier: Pipeline) -> Pipeline:
    """Return the same model without the caches that its parts have filled while they were fitted and used.

    Two caches would disturb skops: np.vectorize in the text cleaner has cached ufuncs, which skops cannot write. Each
    TfidfVectorizer has cached its vocabulary as a dictionary, which would make the file much larger.
    """
    cleaner, (name, union), *rest = classifier.steps
    for _name, reader in union.transformer_list:
        vars(reader.named_steps["tfidf"]).pop("vocabulary_", None)
    return Pipeline([(cleaner[0], text_cleaner()), (name, union), *rest])


def signature() -> ModelSignature:
    """Return the model's MLflow signature. Input: the text columns, all optional. Output: one int64 class code for each row."""
    inputs = Schema([ColSpec(DataType.string, name, required=False) for name in TEXT_COLUMNS])
    return ModelSignature(inputs, Schema([TensorSpec(np.dtype(np.int64), (-1,))]))


def input_example() -> pd.DataFrame:
    """Return two example products for MLflow to log with the model, one of them without a description."""
    return pd.DataFrame(
        {
            "designation": ["Piscine gonflable ronde 3 m", "Le Petit Prince - Édition de poche"],
            "description": ["<p>Piscine d&#39;&eacute;t&eacute; pour le jardin</p>", None],
        }
    )
