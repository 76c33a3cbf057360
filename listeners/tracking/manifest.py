"""List the files of a run in manifest.json, with the SHA-256 and the size of each file, and compute the digest of its record."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from shared.hashing import sha256_of
from shared.mlflow_names import Artifact, Tag


class Manifest:
    """The files that a run has logged so far: the SHA-256 and the size in bytes of each, by its path in the run."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def add(self, name: str, path: Path) -> None:
        self._digests[name] = sha256_of(path)
        self._sizes[name] = path.stat().st_size

    def as_json(self) -> dict[str, Any]:
        """Return the content of manifest.json."""
        return {
            "artifacts": dict(sorted(self._digests.items())),
            "bytes": dict(sorted(self._sizes.items())),
        }


def manifest_record(path: Path) -> dict[str, Any]:
    """Return what PostgreSQL records about a run's manifest.json: its SHA-256, and the sizes of all files of the run.

    `artifact_bytes` maps each file, or folder of files, to its size in bytes. It is left out for a run of an earlier version,
    whose manifest has no sizes.
    """
    sizes: dict[str, int] = json.loads(path.read_text(encoding="utf-8")).get("bytes", {})
    totals = {Artifact.MANIFEST: path.stat().st_size} if sizes else {}
    for name, size in sizes.items():
        top = name.partition("/")[0]  # the model's folder holds many files
        totals[top] = totals.get(top, 0) + size
    return {"manifest_sha256": sha256_of(path), **({"artifact_bytes": totals} if totals else {})}


def record_sha256(run: Run) -> str:
    """Return the SHA-256 of a run's name, params, metrics, inputs and tags, without the two tags that may change later."""
    tags = {
        name: value for name, value in run.data.tags.items() if name not in {Tag.SUPERSEDED, MLFLOW_RUN_NOTE}
    }
    used = run.inputs.dataset_inputs if run.inputs else []
    inputs = sorted(json.dumps(entry.to_dictionary(), sort_keys=True) for entry in used)
    record = [run.info.run_name, run.data.params, run.data.metrics, tags, inputs]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
