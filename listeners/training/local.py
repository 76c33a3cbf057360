"""Fit a batch's model in this process, with the trainer that the setting TRAINER names (ENGINE=local)."""

from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from listeners.training import linear_svm  # noqa: F401  the fork server imports the default trainer once, for all children
from listeners.training.dataset import read_training_data, training_input
from listeners.training.drift import earlier_words
from listeners.training.engine import Fitted, Request
from listeners.training.trainers import load_trainer

logger = structlog.get_logger()


def fit_model(request: Request) -> Fitted:
    """Read a dataset, and fit a model on it.

    Raises:
        StageError: the dataset cannot be read.
        VerificationError: the dataset differs from what was recorded.
    """
    data = read_training_data(request.fetch())
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        given = training_input(
            data, seed=request.seed, processes=request.settings.training_processes, scratch=Path(scratch)
        )
        model = load_trainer(request.trainer).fit(given)
    return Fitted(data, model, "local", "the local engine", earlier_words(request.sample, data))
