"""Describe the environment of a run: code, libraries, settings and machine. These and the data decide the result of the run.

Every run records its environment. If a rebuild gives a different result, `rakuten reproduce` can then name what has changed.
"""

import hashlib
import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

from shared.config import Settings

_GIT_DEADLINE_S: Final = 10.0
_PACKAGES: Final = ("db", "listeners", "rakuten", "shared")
# These settings choose rows or seed algorithms. With the same data, the other settings do not change a result.
_DECISIVE_SETTINGS: Final = ("random_seed", "holdout_percentage", "balancing_strategy")
# These packages compute or write the results of a run. The package that most likely causes a different result comes first.
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
    """Return the content of a run's environment.json: code version, settings, versions of all packages, and machine."""
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


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one line for each difference between two environments. The most likely cause of a different result comes first.

    Settings are not compared, because the current settings do not change a rebuild. A rebuild uses the seed that the run
    recorded, and it reads no other setting of environment.json.
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
    """Return the version of every installed distribution, by name."""
    return {
        distribution.name.lower(): distribution.version
        for distribution in sorted(importlib.metadata.distributions(), key=lambda found: found.name.lower())
    }


def _code(built_from: str | None) -> dict[str, Any]:
    """Return the version of rakuten-pipeline and its git state. Without a checkout, the commit is that of the image's build."""
    commit = _checkout() or {"git_commit": built_from, "git_dirty": None, "git_diff_sha256": None}
    return {"version": importlib.metadata.version("rakuten-pipeline"), **commit}


@cache
def _checkout() -> dict[str, Any] | None:
    """Return the commit of this code's git checkout and a digest of uncommitted changes, or None if there is no checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    # Compare only the project's Python packages: notes and data beside the packages do not change a result.
    changes = _git(root, "status", "--porcelain", "--", *_PACKAGES)
    difference = _git(root, "diff", "HEAD", "--", *_PACKAGES) if changes else None
    return {
        "git_commit": commit.decode().strip() if commit else None,
        "git_dirty": None if changes is None else bool(changes),
        "git_diff_sha256": hashlib.sha256(difference).hexdigest() if difference else None,
    }


def _git(root: Path, *arguments: str) -> bytes | None:
    try:
        # git rejects another user's checkout, as a container may have it, unless safe.directory names the checkout
        answer = subprocess.run(
            ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments],  # noqa: S607  git is found through PATH
            capture_output=True,
            check=True,
            timeout=_GIT_DEADLINE_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout


# Call both functions at import, in the fork server, to cache their results. So no child process reads hundreds of files while a
# batch waits. And a run records the code that was imported, even if somebody edits the checkout or checks out another commit
# later.
packages()
_checkout()
