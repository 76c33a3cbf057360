"""Read from a finished run what PostgreSQL records about it, so that an adopted run gives the same record as a new one."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from mlflow.entities import Run

from listeners.tracking.runs import Tracking
from shared.mlflow_names import Artifact

_F1: Final = "f1_class_"


def f1_by_class(run: Run) -> dict[str, float]:
    """Return the F1 of each class of the holdout, by the class's code as text, as in JSON."""
    found = {
        name.removeprefix(_F1): value for name, value in run.data.metrics.items() if name.startswith(_F1)
    }
    return dict(sorted(found.items(), key=lambda entry: int(entry[0])))


def recorded_drift(tracking: Tracking, run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `drift`, or nothing for a run of an earlier version. `record` is what `Tracking.record_of` returns."""
    document = read_json(tracking, run, record, Artifact.DRIFT)
    return {} if document is None else {"drift": document["drift"]}


def recorded_suspects(tracking: Tracking, run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `suspects`, or nothing if the run has none: its model has no out-of-fold probabilities, or is of an earlier version."""
    document = read_json(tracking, run, record, Artifact.SUSPECTS_SUMMARY)
    return {} if document is None else {"suspects": document}


def read_json(tracking: Tracking, run: Run, record: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the content of a JSON file of a run, or None if the run has no such file.

    Raises:
        StageError: the file cannot be read.
    """
    if name not in record.get("artifact_bytes", {}):
        return None
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        content: dict[str, Any] = json.loads(
            tracking.download(run, name, Path(scratch)).read_text(encoding="utf-8")
        )
    return content
