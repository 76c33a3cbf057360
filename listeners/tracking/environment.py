"""Describe the environment of an MLflow run: code, libraries, settings and machine.

The environment and the data decide the result of the run. Every run stores its environment in a file, environment.json.
`rakuten reproduce` rebuilds the dataset and the model of a batch. If they differ from the recorded ones, the command compares
environment.json with the present environment and names the changes.
"""

import hashlib
import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

from shared.config import Settings

_GIT_DEADLINE_S: Final = 10.0
_PACKAGES: Final = ("db", "listeners", "rakuten", "shared")
# Only these settings can change a dataset or a model that is built from the same data: they choose rows or seed algorithms.
_DECISIVE_SETTINGS: Final = ("random_seed", "holdout_percentage", "balancing_strategy")
# These packages compute or write the results of a run. First comes the package whose change most likely changes a result.
_DECISIVE_PACKAGES: Final = (
    "pyarrow",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "imbalanced-learn",
    "mlflow-skinny",
)


def environment(settings: Settings) -> dict[str, Any]:
    """Return what a run stores in environment.json: code version, settings, versions of all packages, and machine."""
    return {
        "code": _code(settings.git_commit),
        "settings": {name: getattr(settings, name) for name in _DECISIVE_SETTINGS},
        "packages": packages(),
        "platform": {
            "python": platform.python_version(),
            "system": platform.system(),
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()),
        },
    }


def source_tags(settings: Settings) -> dict[str, str]:
    """Return the tags from which MLflow's pages show the source of a run: the project and, if it is known, its git commit."""
    commit = _code(settings.git_commit)["git_commit"]
    tags = {MLFLOW_SOURCE_TYPE: "JOB", MLFLOW_SOURCE_NAME: "rakuten-pipeline"}
    return tags if commit is None else {**tags, MLFLOW_GIT_COMMIT: str(commit)}


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one line for each difference between two environments. The most likely cause of a different result comes first.

    An environment is what `environment` returns. `then` was recorded by a run, and `now` is the present one. Their settings are
    not compared, because `rakuten reproduce` takes the seed from the run and not from the present settings.
    """
    changed = []
    for kind in ("code", "platform", "packages"):
        before, after = then.get(kind, {}), now.get(kind, {})
        changed += [
            (name, f"{kind}: {name} was {before.get(name)}, is {after.get(name)}")
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
    ranks = {name: rank for rank, name in enumerate(_DECISIVE_PACKAGES)}
    return [line for _, line in sorted(changed, key=lambda change: ranks.get(change[0], len(ranks)))]


@cache
def packages() -> dict[str, str]:
    """Return the version of every installed Python package, by the name of the package."""
    return {
        distribution.name.lower(): distribution.version
        for distribution in sorted(importlib.metadata.distributions(), key=lambda found: found.name.lower())
    }


def _code(built_from: str | None) -> dict[str, Any]:
    """Return the version of rakuten-pipeline, the git commit of its code, and a digest of the uncommitted changes.

    `built_from` is the commit that a container image was built from. It is used if there is no git checkout.
    """
    commit = checkout() or {"git_commit": built_from, "git_dirty": None, "git_diff_sha256": None}
    return {"version": importlib.metadata.version("rakuten-pipeline"), **commit}


@cache
def checkout() -> dict[str, Any] | None:
    """Return the commit and a digest of the uncommitted changes of this code's git checkout, or None without a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    # Look for changes only in the project's Python packages: other files, such as notes and data, do not change a result.
    changes = _git(root, "status", "--porcelain", "--", *_PACKAGES)
    difference = _git(root, "diff", "HEAD", "--", *_PACKAGES) if changes else None
    return {
        "git_commit": commit.decode().strip() if commit else None,
        "git_dirty": None if changes is None else bool(changes),
        "git_diff_sha256": hashlib.sha256(difference).hexdigest() if difference else None,
    }


def _git(root: Path, *arguments: str) -> bytes | None:
    try:
        # without safe.directory, git refuses a checkout that another user owns, which is common in containers
        answer = subprocess.run(
            ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments],  # noqa: S607  git is found through PATH
            capture_output=True,
            check=True,
            timeout=_GIT_DEADLINE_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout
