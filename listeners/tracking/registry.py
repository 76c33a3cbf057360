"""The model registry: one version per run, and the alias `champion` on one of them."""

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from listeners.tracking.runs import Tracking
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL, Tag


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
    model_uri = run.data.tags[Tag.MODEL_URI]
    return client.create_model_version(
        REGISTERED_MODEL,
        model_uri,
        run_id=run.info.run_id,
        tags={name: run.data.tags[name] for name in (Tag.BATCH_ID, Tag.BATCH_COMPLETED_AT)},
        model_id=model_uri.removeprefix("models:/"),  # a server refuses a logged model without it
    )
