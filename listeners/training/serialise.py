"""Serialise a fitted model and log it to MLflow, in the skops format.

Unlike a pickle file, a skops file contains no code of its own: whoever loads a model file does not run code from the file.
"""

import importlib.metadata
from typing import Final

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from sklearn.pipeline import Pipeline

from listeners.training.text import TEXT_COLUMNS, text_cleaner
from shared.mlflow_names import MODEL_EXPERIMENT, Artifact

# Types and functions in a model that skops does not trust by default, but must trust to load the model. skops trusts the other
# types in the model by default. None of the types below lets a model file choose a method to call or an expression to evaluate
# (tests/security/test_models.py).
SKOPS_TRUSTED_TYPES: Final = (
    "builtins.dict",
    "functools.partial",
    "html.unescape",
    "numpy.dtype",
    "numpy.vectorize",
    "operator.itemgetter",
    "pandas.DataFrame",
    "re.sub",
    "sklearn.feature_extraction.text.strip_accents_unicode",
)

# Packages that a prediction needs, for the model's requirements in MLflow. MLflow adds itself to them.
PIP_REQUIREMENTS: Final = tuple(
    f"{name}=={importlib.metadata.version(name)}"
    for name in ("numpy", "pandas", "scikit-learn", "scipy", "skops")
)


def log_model(run_id: str, classifier: Pipeline) -> str:
    """Log the model to its MLflow run in the skops format, and return the model's URI.

    skops loads a model only if all its types are on skops' own list of trusted types or in `SKOPS_TRUSTED_TYPES`.
    """
    # After this call, MLflow stores the model with the artifacts of this experiment. Without the call, MLflow would store the
    # model in the default experiment, in ./mlruns.
    mlflow.set_experiment(MODEL_EXPERIMENT)
    info = mlflow.sklearn.log_model(
        without_caches(classifier),
        name=Artifact.MODEL,
        run_id=run_id,
        serialization_format="skops",
        skops_trusted_types=list(SKOPS_TRUSTED_TYPES),
        signature=signature(),
        input_example=input_example(),
        pip_requirements=list(PIP_REQUIREMENTS),
    )
    return str(info.model_uri)


def without_caches(classifier: Pipeline) -> Pipeline:
    """Return the same model without what its parts have cached during use, so that skops can write it to a small file.

    In the text cleaner, np.vectorize has cached ufuncs, which skops cannot write. Each TfidfVectorizer has cached its
    vocabulary as a dictionary, which would take much space in the file.
    """
    cleaner, (name, union), *rest = classifier.steps
    for _name, reader in union.transformer_list:
        vars(reader.named_steps["tfidf"]).pop("vocabulary_", None)
    return Pipeline([(cleaner[0], text_cleaner()), (name, union), *rest])


def signature() -> ModelSignature:
    """Return the model's MLflow signature. Input: the text columns, all optional. Output: one int64 code for each row."""
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
