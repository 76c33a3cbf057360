"""Find the experiments of MLflow."""

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage

from shared.errors import OutageError


def active_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """Return the experiment with this name, or None if it does not exist.

    Raises:
        OutageError: the experiment is deleted. MLflow keeps a deleted experiment and its runs, and can restore them. Until then,
            no run can be added, and the existing runs must not count as lost.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise OutageError(
            f"the experiment {name} is deleted in MLflow",
            remedy=f"restore it: mlflow experiments restore -x {experiment.experiment_id}",
        )
    return experiment
