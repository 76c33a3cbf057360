"""Load a model that a user names, without PostgreSQL."""

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import mlflow.artifacts
from mlflow.exceptions import MlflowException

from listeners.outages import outage_of
from listeners.serving.model import ModelInfo, ServedModel, digests_of, files_sha256
from shared.config import Settings
from shared.errors import BadInputError

_REMEDY = "name a folder with a file MLmodel, or a URI such as models:/rakuten_classifier/3"


def load_fixed(settings: Settings, source: str) -> ServedModel:
    """Load the model in a folder, or at an address that MLflow knows.

    Args:
        settings: where MLflow is.
        source: the folder or the address, such as models:/rakuten_classifier/3.

    Raises:
        BadInputError: there is no such folder, or nothing at the address.
        StageError: the folder holds no model, or a model that only a pickle file describes.
    """
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        folder = Path(source)
        if not folder.is_dir():
            folder = _download(settings.tracking_uri, source, Path(scratch))
        return ServedModel(folder, ModelInfo(source, None, None, files_sha256(digests_of(folder))))


def _download(tracking_uri: str, source: str, scratch: Path) -> Path:
    if "://" not in source and ":/" not in source:
        raise BadInputError(f"--model {source}: there is no such folder", remedy=_REMEDY)
    mlflow.set_tracking_uri(tracking_uri)
    try:
        return Path(mlflow.artifacts.download_artifacts(source, dst_path=str(scratch)))
    except (MlflowException, OSError) as error:
        if outage_of(error) is not None:
            raise
        raise BadInputError(
            f"--model {source}: nothing can be downloaded: {error}", remedy=_REMEDY
        ) from error
