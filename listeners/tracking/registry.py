"""Find and register model versions in MLflow. Each training run gets one version; one version has the alias `champion`."""

from functools import partial
from typing import Final

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from listeners.tracking.descriptions import model_version
from listeners.tracking.runs import Tracking, if_known
from shared.mlflow_names import CHAMPION, Tag

_VERSION_TAGS: Final = (Tag.BATCH_ID, Tag.BATCH_NUMBER, Tag.BATCH_SEAL, Tag.DATASET_NAME)


def champion(tracking: Tracking) -> ModelVersion | None:
    """Return the model version that has the alias `champion`, or None if no version has the alias."""
    return if_known(lambda: tracking.client.get_model_version_by_alias(tracking.registered_model, CHAMPION))


def versions_of(tracking: Tracking, run_id: str) -> list[ModelVersion]:
    """Return the versions in the model registry that were made from the model of the run `run_id`."""
    condition = f"name = '{tracking.registered_model}' and run_id = '{run_id}'"
    return list(tracking.client.search_model_versions(condition))


def ensure_registered(tracking: Tracking, run: Run) -> ModelVersion:
    """Return the version that the model of `run` has in the model registry. If it has none yet, register the model.

    Two attempts may register the model at once, and MLflow's client may repeat a request that MLflow has already carried out.
    So look again afterwards. All attempts keep the version with the lowest number, and delete the others that they have made.
    """
    if not (versions := versions_of(tracking, run.info.run_id)):
        _register(tracking, run)
        versions = versions_of(tracking, run.info.run_id)
    first, *others = sorted(versions, key=lambda version: int(version.version))
    for other in others:
        if (
            Tag.BATCH_SEAL in other.tags
        ):  # a person who registers a model by hand gives the version no such tag
            if_known(partial(tracking.client.delete_model_version, tracking.registered_model, other.version))
    return first


def _register(tracking: Tracking, run: Run) -> None:
    model_uri = run.data.tags[Tag.MODEL_URI]
    tracking.client.create_model_version(
        tracking.registered_model,
        model_uri,
        run_id=run.info.run_id,
        tags={
            **{name: run.data.tags[name] for name in _VERSION_TAGS},
            "f1_score": f"{run.data.metrics['f1_score']:.4f}",
        },
        description=model_version(run),
        model_id=model_uri.removeprefix("models:/"),  # an MLflow server requires model_id
    )
