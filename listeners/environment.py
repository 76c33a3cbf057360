"""What besides the data decides a result: code, libraries, settings and machine. Every run records it, for reproducing."""

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

from shared.config import Settings

_GIT_DEADLINE_S: Final = 10.0
# the settings that choose rows or seed algorithms; the others say where things are
_DECISIVE_SETTINGS: Final = ("random_seed", "holdout_percentage", "balancing_strategy")


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
    """What has changed between two environments, a line each, what most likely explains a difference first."""
    lines = []
    for kind in ("settings", "code", "packages", "platform"):
        before, after = then.get(kind, {}), now.get(kind, {})
        lines += [
            f"{kind}: {name} was {before.get(name)}, is {after.get(name)}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
    return lines


@cache
def packages() -> dict[str, str]:
    """The version of every installed distribution, by name."""
    return {
        distribution.name.lower(): distribution.version
        for distribution in sorted(importlib.metadata.distributions(), key=lambda one: one.name.lower())
    }


@cache
def _code(built_from: str | None) -> dict[str, Any]:
    """The package's version and the commit: that of the checkout it runs from, or the one that an image was built from."""
    code: dict[str, Any] = {"version": importlib.metadata.version("rakuten-pipeline")}
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return {**code, "git_commit": built_from, "git_dirty": None}
    # packages only: notes and data beside them decide nothing
    changes = _git(root, "status", "--porcelain", "--", "db", "listeners", "shared")
    return {
        **code,
        "git_commit": _git(root, "rev-parse", "HEAD"),
        "git_dirty": changes and bool(changes.strip()),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        # safe.directory: in a container the checkout may belong to another user
        answer = subprocess.run(
            ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments],  # noqa: S607  found as the shell finds it
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_DEADLINE_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


packages()  # at import, which the fork server pays: no child reads hundreds of files on a wake-up's path
