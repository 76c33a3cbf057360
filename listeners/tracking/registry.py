"""Find and register model versions in MLflow. Each training run gets one version; one version has the alias `champion`."""

from contextlib import suppress

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from listeners.tracking.runs import Tracking, if_known
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL, Tag


def champion(tracking: Tracking) -> ModelVersion | None:
    """Return the model version that has the alias `champion`, or None if no version has the alias."""
    return if_known(lambda: tracking.client.get_model_version_by_alias(REGISTERED_MODEL, CHAMPION))


def versions_of(tracking: Tracking, run_id: str) -> list[ModelVersion]:
    """Return the versions in the model registry that were made from the model of the run `run_id`."""
    condition = f"name = '{REGISTERED_MODEL}' and run_id = '{run_id}'"
    return list(tracking.client.search_model_versions(condition))


def ensure_registered(tracking: Tracking, run: Run) -> ModelVersion:
    """Return the version that the model of `run` has in the model registry. If it has none yet, register the model."""
    if versions := versions_of(tracking, run.info.run_id):
        return versions[0]
    if if_known(lambda: tracking.client.get_registered_model(REGISTERED_MODEL)) is None:
        # Ignore the error, because another worker may have just created the registered model. If the registered model is still
        # missing, create_model_version below raises an error.
        with suppress(MlflowException):
            tracking.client.create_registered_model(REGISTERED_MODEL)
    model_uri = run.data.tags[Tag.MODEL_URI]
    return tracking.client.create_model_version(
        REGISTERED_MODEL,
        model_uri,
        run_id=run.info.run_id,
        tags={name: run.data.tags[name] for name in (Tag.BATCH_ID, Tag.BATCH_COMPLETED_AT)},
        model_id=model_uri.removeprefix("models:/"),  # an MLflow server requires model_id
    )
