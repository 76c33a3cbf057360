"""Download artifacts from MLflow, and keep the reason if that fails."""

from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository


def download(uri: str, path: str, directory: Path, tracking_uri: str) -> Path:
    """Download an artifact, or a folder of artifacts, and return its local path.

    MLflow downloads the files in threads, and then raises one error that has the errors of the files only as text. Without their
    types, nobody could tell a server that is unavailable from a file that is missing. So the first of them becomes the cause.

    Args:
        uri: address of a run's artifacts or of a logged model.
        path: path of the artifact below `uri`; "" for all of them.
        directory: the folder to download to. It is created if it is missing.
        tracking_uri: address of MLflow.

    Raises:
        MlflowException: the artifact cannot be downloaded.
        OSError: the artifact cannot be read or written on this machine.
    """
    repository: Any = get_artifact_repository(uri, tracking_uri)
    store = getattr(repository, "repo", repository)  # a logged model's repository passes all requests on
    download_file = store._download_file  # noqa: SLF001  the method that each kind of store implements
    reasons: list[Exception] = []

    def record_failure(*arguments: Any, **named: Any) -> None:
        try:
            download_file(*arguments, **named)
        except (
            Exception
        ) as error:  # each kind of store raises errors of its own library; all are raised again
            reasons.append(error)
            raise

    store._download_file = record_failure  # noqa: SLF001
    directory.mkdir(parents=True, exist_ok=True)
    try:
        return Path(repository.download_artifacts(path, str(directory)))
    except MlflowException as error:
        if reasons:
            raise error from reasons[0]
        raise
