"""What the training stage asks of its engine, which the setting ENGINE names: fit a model on one dataset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from listeners.training.dataset import TrainingData
from listeners.training.trainers import FittedModel
from shared.config import Settings

DEFAULT_TRAINER: Final = "linear_svm"


@dataclass(frozen=True)
class Request:
    """The model to fit.

    Attributes:
        settings: of the stage.
        name: of the model, for messages.
        trainer: name of the trainer.
        seed: seed of everything that is random.
        fetch: puts the dataset on this machine's disk, and returns the path of its parquet file or folder of files.
        uri: the folder in DATASET_STORE with the dataset's files; None if the dataset is one file.
        sha256: SHA-256 of the manifest in `uri`, or of the file.
        sample: productids of the products that drift compares, by group; empty if the dataset's run does not say it.
    """

    settings: Settings
    name: str
    trainer: str
    seed: int
    fetch: Callable[[], Path]
    uri: str | None
    sha256: str
    sample: Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and what the stage needs to know of the products on which it was fitted.

    Attributes:
        data: the training products. An engine may leave out texts that nobody reads: it needs the titles of the sampled products and
            of those whose labels are most suspicious.
        model: the model.
        engine: the engine that has fitted it, `local` or `spark`.
        fitted_by: the engine in words, for the model card.
        earlier_words: in how many titles of products that are not new each word occurs; at least of the words in the titles of sampled
            products.
    """

    data: TrainingData
    model: FittedModel
    engine: str
    fitted_by: str
    earlier_words: Mapping[str, int]


Engine = Callable[[Request], Fitted]


def engine_of(engine: str, trainer: str) -> Engine:
    """Return the engine that fits a model. Spark fits the default model only: another trainer works in this process.

    It imports pyspark only where it is needed.
    """
    if engine == "spark" and trainer == DEFAULT_TRAINER:
        from listeners.training.spark.engine import fit_model as fit_on_spark  # noqa: PLC0415

        return fit_on_spark
    from listeners.training.local import fit_model  # noqa: PLC0415  it imports this module

    return fit_model
