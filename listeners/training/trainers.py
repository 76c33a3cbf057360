"""The interface between the training stage and the model that it trains, so that a team can train a model of its own.

A trainer is a class that a package names in the entry point group `rakuten.trainers`. The setting TRAINER chooses one by its name;
`linear_svm` is the default. The pipeline evaluates, publishes, compares and promotes the models of every trainer in the same way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared.errors import OutageError

_GROUP: Final = "rakuten.trainers"


@dataclass(frozen=True)
class TrainingInput:
    """What a trainer gets: each product of a balanced dataset once.

    Attributes:
        products: shape (n, any), with the text columns designation and description, which may be None, and image_path, the path of
            the image below DATA_PATH.
        labels: prdtypecode of each product, shape (n,), int64, at least two classes.
        multiplicities: how many copies of each product the dataset has, shape (n,), int64, at least 1.
        folds: a fold for each product, shape (n,), int64, from 0. Products of nearly the same text are in the same fold.
        seed: seed of everything that is random.
        processes: number of processes to use; None for as many as cores and memory allow.
        scratch: an empty folder, which is removed afterwards.
        progress: call it with a few words at the start of each long step; the listener's log shows them.
    """

    products: pd.DataFrame
    labels: npt.NDArray[np.int64]
    multiplicities: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    seed: int
    processes: int | None
    scratch: Path
    progress: Callable[[str], None]


class FittedModel(Protocol):
    """What a trainer returns.

    Attributes:
        classes: the classes that the model knows, shape (n_classes,), int64, ascending.
        hyperparameters: what defines the model, apart from seed and data; logged as params.
        out_of_fold: probabilities of each training product, shape (n, n_classes), by models that were not fitted on products of its
            fold. Thresholds and suspects come from them. None if the trainer has none: then the run has neither.
        digest: SHA-256 of everything that the model has learned, equal for equal input; None if two trainings may differ.
        tolerance: how much a metric may differ between two trainings on the same input; 0 if the digest is not None.
        metrics: of the training itself, for MLflow. `converged` is 1 or 0: with 0, the run's description has a warning.
    """

    @property
    def classes(self) -> npt.NDArray[np.int64]: ...

    @property
    def hyperparameters(self) -> Mapping[str, str | int | float]: ...

    @property
    def out_of_fold(self) -> npt.NDArray[np.float64] | None: ...

    @property
    def digest(self) -> str | None: ...

    @property
    def tolerance(self) -> float: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...

    def predict(self, products: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Return the class of each product, shape (n,), int64."""

    def predict_proba(self, products: pd.DataFrame) -> npt.NDArray[np.float64] | None:
        """Return the probability of each class for each product, shape (n, n_classes), or None if the model has none."""

    def log(self, run_id: str) -> str:
        """Log the model to an MLflow run, without pickle, and return its URI. Its `predict` must load without the trainer's code."""


@runtime_checkable
class Trainer(Protocol):
    """Fits models. It is made without arguments, once for each batch."""

    def fit(self, data: TrainingInput) -> FittedModel:
        """Fit a model. The same input must give the same model, or the model has no digest."""


def load_trainer(name: str) -> Trainer:
    """Return the trainer with this name.

    Raises:
        OutageError: no installed package has a trainer with this name, or it cannot be imported.
    """
    known = {found.name: found for found in entry_points(group=_GROUP)}
    if name not in known:
        raise OutageError(
            f"TRAINER is {name!r}, and no installed package has a trainer of this name",
            remedy=f"choose one of {', '.join(sorted(known))}, or install the package that has it",
        )
    try:
        trainer = known[name].load()()
    except ImportError as error:
        raise OutageError(
            f"the trainer {name!r} cannot be imported: {error}",
            remedy=f"install what the package of {known[name].value} needs",
        ) from error
    if not isinstance(trainer, Trainer):
        raise OutageError(
            f"{known[name].value} is no trainer: it has no method `fit`",
            remedy="see docs/how-to/own-model.md for what a trainer must have",
        )
    return trainer
