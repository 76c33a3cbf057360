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
    return (
        {"drift": read_json(tracking, run, Artifact.DRIFT)["drift"]} if _has(record, Artifact.DRIFT) else {}
    )


def recorded_suspects(tracking: Tracking, run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `suspects`, or nothing if the run has none: its model has no out-of-fold probabilities, or is of an earlier version."""
    name = Artifact.SUSPECTS_SUMMARY
    return {"suspects": read_json(tracking, run, name)} if _has(record, name) else {}


def read_json(tracking: Tracking, run: Run, name: str) -> dict[str, Any]:
    """Return the content of a JSON file of a run.

    Raises:
        StageError: the run has no such file, or the file cannot be read.
    """
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        text = tracking.download(run, name, Path(scratch)).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _has(record: Mapping[str, Any], artifact: str) -> bool:
    return artifact in record.get("artifact_bytes", {})
