"""Models that the two stages have trained, and where their files are."""

from pathlib import Path

import mlflow.artifacts
import pytest
from stage_work import work_on

from listeners.tracking.runs import Tracking
from shared.mlflow_names import REGISTERED_MODEL, Tag


@pytest.fixture
def tracking(settings):
    return Tracking(settings)


@pytest.fixture
def train(database, settings, load_weeks):
    """Loads weeks and trains a model on each."""

    def weeks(count):
        for batch_id in load_weeks(count):
            work_on(database, settings, batch_id)

    return weeks


@pytest.fixture
def logged_model(tracking):
    """The folder of the files of a version's model."""

    def folder(version: int) -> Path:
        run_id = tracking.client.get_model_version(REGISTERED_MODEL, str(version)).run_id
        uri = tracking.client.get_run(run_id).data.tags[Tag.MODEL_URI]
        return Path(mlflow.artifacts.download_artifacts(uri))  # of a local store: the place itself

    return folder
