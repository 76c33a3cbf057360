"""Two trained weeks, which the tests of this folder share. Each begins with version 2 as champion."""

from pathlib import Path

import mlflow.artifacts
import pytest
from stage_work import work_on

from db.database import Role
from db.source.training_set import read_training_set
from listeners.promotion.rollback import roll_back
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from shared.mlflow_names import REGISTERED_MODEL, Tag


@pytest.fixture(scope="session")
def trained(shared_database, generated, load_weeks_into):
    with shared_database() as made:
        settings = made.settings.model_copy(update={"data_path": generated})
        training_set = read_training_set(generated, settings.random_seed, settings.holdout_percentage)
        for batch_id in load_weeks_into(made, settings, training_set, 2):
            work_on(made, settings, batch_id)
        yield made


@pytest.fixture
def database(trained):
    return trained


@pytest.fixture
def tracking(settings):
    return Tracking(settings)


@pytest.fixture
def move_to(tracking, database):
    """Moves the alias to a version, as a person does."""
    conninfo = database.conninfo(Role.TRAINING)
    return lambda version: roll_back(tracking, conninfo, version, reason="test", by="somebody")


@pytest.fixture
def champion(tracking, move_to):
    """Version 2, whatever the test before has done."""
    if str(registry.champion(tracking).version) != "2":
        move_to(2)
    return registry.champion(tracking)


@pytest.fixture
def logged_model(tracking):
    """The folder of the files of a version's model."""

    def folder(version: int) -> Path:
        run_id = tracking.client.get_model_version(REGISTERED_MODEL, str(version)).run_id
        uri = tracking.client.get_run(run_id).data.tags[Tag.MODEL_URI]
        return Path(mlflow.artifacts.download_artifacts(uri))  # of a local store: the place itself

    return folder
