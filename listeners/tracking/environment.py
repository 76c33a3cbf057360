"""What besides the data decides a result: code, libraries, settings and machine. Every run records it, for reproducing."""

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
# the settings that choose rows or seed algorithms; the others say where things are
_DECISIVE_SETTINGS: Final = ("random_seed", "holdout_percentage", "balancing_strategy")
# the packages that compute a result, or write it: what most likely explains a difference first
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
    """What environment.json of a run says: `code`, `settings`, `packages` (every installed version) and `platform`."""
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
    """What has changed between two environments, a line each, what most likely explains a difference first.

    Of the settings nothing: who builds again takes the seed that the run recorded, and reads no other.
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
    """The version of every installed distribution, by name."""
    return {
        distribution.name.lower(): distribution.version
        for distribution in sorted(importlib.metadata.distributions(), key=lambda one: one.name.lower())
    }


def _code(built_from: str | None) -> dict[str, Any]:
    """The package's version and the commit: that of the checkout it runs from, or the one that an image was built from."""
    commit = _checkout() or {"git_commit": built_from, "git_dirty": None, "git_diff_sha256": None}
    return {"version": importlib.metadata.version("rakuten-pipeline"), **commit}


@cache
def _checkout() -> dict[str, Any] | None:
    """The commit of the checkout that this code runs from, and the digest of what was changed since; None without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    # packages only: notes and data beside them decide nothing
    changes = _git(root, "status", "--porcelain", "--", *_PACKAGES)
    difference = _git(root, "diff", "HEAD", "--", *_PACKAGES) if changes else None
    return {
        "git_commit": commit.decode().strip() if commit else None,
        "git_dirty": None if changes is None else bool(changes),
        "git_diff_sha256": hashlib.sha256(difference).hexdigest() if difference else None,
    }


def _git(root: Path, *arguments: str) -> bytes | None:
    try:
        # safe.directory: in a container the checkout may belong to another user
        answer = subprocess.run(
            ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments],  # noqa: S607  found as the shell finds it
            capture_output=True,
            check=True,
            timeout=_GIT_DEADLINE_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout


# At import, which the fork server pays: no child reads hundreds of files on a wake-up's path, and what is recorded is the code
# that was imported, whatever is checked out or edited later.
packages()
_checkout()
