"""Find the champion, and load it only if PostgreSQL and MLflow agree on it and its files are those that the training stage logged."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from mlflow.entities import Run

from db.batches import Connection, rows
from db.sql import query
from listeners.serving.model import ModelInfo, ServedModel, digests_of, files_sha256
from listeners.tracking import artifacts, registry
from listeners.tracking.runs import Tracking
from shared.errors import StageError, VerificationError
from shared.hashing import require_sha256
from shared.mlflow_names import Artifact, Tag

_MODEL_FILES: Final = f"{Artifact.MODEL}/"


class Champion(NamedTuple):
    """The version that PostgreSQL and MLflow agree on."""

    version: int
    run_id: str
    batch_name: str
    manifest_sha256: str


def find_champion(tracking: Tracking, connection: Connection) -> Champion | None:
    """Return the champion, or None before the first one.

    Args:
        tracking: MLflow, which is only read.
        connection: a connection with the role of a reader.

    Raises:
        StageError: MLflow's alias is on another version than PostgreSQL's last move, or the champion is no recorded model.
    """
    recorded = next(iter(rows(connection, query("champion/present"))), None)
    holder = registry.champion(tracking)
    version = None if holder is None else int(holder.version)
    expected = None if recorded is None else recorded["version"]
    if version != expected or (holder is not None and recorded and holder.run_id != recorded["run_id"]):
        raise StageError(
            f"MLflow's alias champion is on {_version(version)}, but the last move that PostgreSQL has recorded was to"
            f" {_version(expected)}",
            remedy="rakuten champion shows the moves; rakuten rollback --to VERSION moves the alias and records it",
        )
    if recorded is None or version is None:
        return None
    if recorded["manifest_sha256"] is None:
        raise StageError(
            f"version {version} is champion, but the training stage has not recorded its model yet",
            remedy="wait until the training of its batch is finished; rakuten status shows it",
        )
    return Champion(version, recorded["run_id"], recorded["batch_name"], recorded["manifest_sha256"])


def load_champion(tracking: Tracking, champion: Champion) -> ServedModel:
    """Download the champion's model, check every file, and load it.

    Raises:
        StageError: MLflow has no such run, or a file cannot be downloaded or loaded.
        VerificationError: a file is not the one that the training stage logged.
    """
    run = tracking.run(champion.run_id)
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        folder = Path(scratch)
        manifest = _manifest(tracking, run, champion.manifest_sha256, folder)
        model = artifacts.download(run.data.tags[Tag.MODEL_URI], "", folder / Artifact.MODEL, tracking.uri)
        found = digests_of(model)
        if differing := sorted(
            name for name in found.keys() | manifest.keys() if found.get(name) != manifest.get(name)
        ):
            raise VerificationError(
                f"the files of version {champion.version} are not those that the training stage logged:"
                f" {', '.join(differing)}",
                remedy="rakuten verify shows what was changed; rakuten reproduce builds the model again",
            )
        info = ModelInfo(
            tracking.registered_model, champion.version, champion.batch_name, files_sha256(found)
        )
        return ServedModel(model, info)


def _manifest(tracking: Tracking, run: Run, sha256: str, folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the run's model, by its path in the model's folder."""
    path = tracking.download(run, Artifact.MANIFEST, folder)
    require_sha256(path, sha256)
    logged: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["artifacts"]
    return {
        name.removeprefix(_MODEL_FILES): digest
        for name, digest in logged.items()
        if name.startswith(_MODEL_FILES)
    }


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
