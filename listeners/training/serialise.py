"""Serialise a fitted model and log it to MLflow, in the skops format.

Unlike a pickle file, a skops file contains no code, so nobody can run code on a machine by giving it a model file to load.
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

# skops must load these parts of the text cleaner; its own list of trusted types covers the rest of scikit-learn. None of these
# types lets a model file choose a method to call or an expression to evaluate (tests/security/test_models.py).
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

# A prediction needs these packages; MLflow adds itself to the list.
PIP_REQUIREMENTS: Final = tuple(
    f"{name}=={importlib.metadata.version(name)}"
    for name in ("numpy", "pandas", "scikit-learn", "scipy", "skops")
)


def log_model(run_id: str, classifier: Pipeline) -> str:
    """Log the model and return its URI. The model is in the skops format, which loads only the types of a short list."""
    # With this call, MLflow stores the model with the experiment's artifacts; otherwise in ./mlruns of the default experiment.
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
    """Return the same model without caches from its use: skops cannot write ufuncs, and needs much space for dictionaries."""
    cleaner, (name, union), *rest = classifier.steps
    for _name, reader in union.transformer_list:
        vars(reader.named_steps["tfidf"]).pop("vocabulary_", None)
    return Pipeline([(cleaner[0], text_cleaner()), (name, union), *rest])


def signature() -> ModelSignature:
    """Return the model's signature: its text columns, each of which may hold nulls or be missing, and its output."""
    inputs = Schema([ColSpec(DataType.string, name, required=False) for name in TEXT_COLUMNS])
    return ModelSignature(inputs, Schema([TensorSpec(np.dtype(np.int64), (-1,))]))


def input_example() -> pd.DataFrame:
    """Return two example products, one of them without a description."""
    return pd.DataFrame(
        {
            "designation": ["Piscine gonflable ronde 3 m", "Le Petit Prince - Édition de poche"],
            "description": ["<p>Piscine d&#39;&eacute;t&eacute; pour le jardin</p>", None],
        }
    )
