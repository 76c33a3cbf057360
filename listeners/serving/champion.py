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


APPLICATION: Final = "rakuten server"


class Champion(NamedTuple):
    """The champion as PostgreSQL has recorded it. What is None is not recorded."""

    version: int
    run_id: str | None
    batch_name: str | None
    manifest_sha256: str | None


class NotRecordedError(StageError):
    """The training stage has not recorded the champion's model. After a promotion, it does this within a second."""


def recorded_champion(connection: Connection) -> Champion | None:
    """Return the version to which PostgreSQL has recorded the last move of the alias, or None if there is none."""
    found = next(iter(rows(connection, query("champion/present"))), None)
    return None if found is None or found["version"] is None else Champion(**found)


def require_agreement(tracking: Tracking, recorded: Champion) -> None:
    """Check that MLflow's alias is on the version that PostgreSQL has recorded, and that PostgreSQL knows its files.

    Raises:
        StageError: the two name different versions.
        NotRecordedError: the training stage has not recorded the champion's model.
    """
    holder = registry.champion(tracking)
    in_mlflow = None if holder is None else (int(holder.version), holder.run_id)
    if in_mlflow != (recorded.version, recorded.run_id):
        raise StageError(
            f"MLflow's alias champion is on {_named(in_mlflow)}, but the last move that PostgreSQL has recorded was to"
            f" version {recorded.version} (run {recorded.run_id})",
            remedy="restart the training listener: it records where the alias is; or rakuten rollback --to VERSION moves the alias back",
        )
    if recorded.manifest_sha256 is None:
        raise NotRecordedError(
            f"version {recorded.version} is champion, but the training stage has not recorded its model",
            remedy="if the training of its batch still runs, wait; else rakuten rollback makes another version champion",
        )


def load_champion(tracking: Tracking, champion: Champion) -> ServedModel:
    """Download the champion's model, check every file, and load it. Call `require_agreement` first.

    Raises:
        StageError: MLflow has no such run, or a file cannot be downloaded or loaded.
        VerificationError: a file is not the one that the training stage logged.
    """
    assert champion.run_id is not None and champion.manifest_sha256 is not None  # noqa: PT018, S101  they agree
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
                remedy="rakuten verify shows what was changed, and rakuten rollback makes an earlier version champion",
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


def _named(version: tuple[int, str | None] | None) -> str:
    return "no version" if version is None else f"version {version[0]} (run {version[1]})"
