"""The model registry: one version per run, and the alias `champion` on one of them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from listeners.mlflow_runs import Tracking
from shared.errors import StageError
from shared.mlflow_names import (
    CHAMPION,
    HOLDOUT_PREDICTIONS,
    REGISTERED_MODEL,
    TAG_BATCH_ID,
    TAG_MODEL_URI,
    TAG_PROMOTE,
)


def champion(tracking: Tracking) -> ModelVersion | None:
    """The version that carries the alias, or None when no model does."""
    try:
        return tracking.client.get_model_version_by_alias(REGISTERED_MODEL, CHAMPION)
    except MlflowException as error:
        if error.error_code in {
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        }:  # no model, or no such alias
            return None
        raise


def champion_predictions(
    tracking: Tracking, version: ModelVersion, productids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """What the champion predicted for the holdout, shape (rows,), int64, in the order of `productids`.

    Raises:
        StageError: its predictions are gone, or are for other products: a comparison would not be paired.
    """
    run = tracking.client.get_run(str(version.run_id))
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        frame = pd.read_parquet(tracking.download(run, HOLDOUT_PREDICTIONS, Path(scratch)))
    if not np.array_equal(frame["productid"].to_numpy(), productids):
        raise StageError(f"version {version.version} was evaluated on another holdout")
    return frame["prediction"].to_numpy().astype(np.int64)


def ensure_registered(tracking: Tracking, run: Run) -> ModelVersion:
    """The version of this run's model, made if an earlier attempt did not come to it."""
    client = tracking.client
    versions = client.search_model_versions(f"name = '{REGISTERED_MODEL}' and run_id = '{run.info.run_id}'")
    if versions:
        return versions[0]
    try:
        client.create_registered_model(REGISTERED_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model_uri = run.data.tags[TAG_MODEL_URI]
    return client.create_model_version(
        REGISTERED_MODEL,
        model_uri,
        run_id=run.info.run_id,
        tags={TAG_BATCH_ID: run.data.tags[TAG_BATCH_ID]},
        model_id=model_uri.removeprefix("models:/"),  # a server refuses a logged model without it
    )


def ensure_promoted(tracking: Tracking, run: Run, version: ModelVersion) -> bool:
    """Carry out the run's own verdict; an older batch's model never displaces a newer one's. Returns who is champion now."""
    holder = champion(tracking)
    if holder is not None and holder.version == version.version:
        return True
    if run.data.tags[TAG_PROMOTE] != "true" or (
        holder is not None and _batch_id(holder) > _batch_id(version)
    ):
        return False
    tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, version.version)
    return True


def _batch_id(version: ModelVersion) -> int:
    return int(version.tags[TAG_BATCH_ID])
