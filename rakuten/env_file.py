"""Fill `.env` with fresh secrets, for `make env`.

This module imports only the standard library, because `make env` runs before any package is installed.

`.env.example` lists the secrets as names without a value. A secret that already has a value in `.env` is never changed. So
running `make env` again after an upgrade adds only the new secrets.

Each run also sets GIT_COMMIT to the commit of the checkout. The Docker images contain no checkout, so they learn the commit
from this value.
"""

import base64
import re
import secrets
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

EXAMPLE: Final = Path(".env.example")
_COMMIT: Final = re.compile(r"^#?GIT_COMMIT=.*$", re.MULTILINE)
_SECRET: Final = re.compile(r"^([A-Z_]+)=$", re.MULTILINE)
_FERNET_BYTES: Final = 32
_SECRET_BYTES: Final = 48  # 48 bytes give 64 characters in base64, the minimum for Airflow's JWT secret


def fill_secrets(example: str, existing: str | None) -> tuple[str, list[str]]:
    """Return (the text of `.env` with a fresh value for each missing secret, the names of these secrets).

    `example` is the text of `.env.example`; `existing` is the present text of `.env`, or None if there is no `.env`.
    """
    wanted = _SECRET.findall(example)
    text = example if existing is None else existing
    missing = [name for name in wanted if not re.search(rf"^{name}=", text, re.MULTILINE)]
    if missing:
        text = text.rstrip("\n") + "\n" + "".join(f"{name}=\n" for name in missing)
    made: list[str] = []

    def fill(line: re.Match[str]) -> str:
        if line[1] not in wanted:
            return line[0]
        made.append(line[1])
        return f"{line[1]}={_fresh(line[1])}"

    return _SECRET.sub(fill, text), made


def with_commit(text: str, commit: str) -> str:
    """Return the text of `.env` with `commit` as the value of GIT_COMMIT."""
    line = f"GIT_COMMIT={commit}"
    return _COMMIT.sub(line, text, count=1) if _COMMIT.search(text) else f"{text.rstrip()}\n{line}\n"


def write(path: Path, example: Path = EXAMPLE, commit: str | None = None) -> list[str]:
    """Add a fresh value for each missing secret to the file `path` (`.env`), and return the names of these secrets.

    The file is replaced as a whole or not at all, and only the user who owns it can read it.
    """
    existing = path.read_text(encoding="utf-8") if path.exists() else None
    text, made = fill_secrets(example.read_text(encoding="utf-8"), existing)
    # NamedTemporaryFile creates a file that only its owner can read (mode 0600), so no other user ever sees the secrets
    with NamedTemporaryFile(
        "w", dir=path.parent, prefix=f"{path.name}.", delete=False, encoding="utf-8"
    ) as new:
        new.write(text if commit is None else with_commit(text, commit))
    Path(new.name).replace(path)
    return made


def _fresh(name: str) -> str:
    if name.endswith("_FERNET_KEY"):
        return base64.urlsafe_b64encode(secrets.token_bytes(_FERNET_BYTES)).decode()
    return secrets.token_urlsafe(_SECRET_BYTES)


def _commit() -> str | None:
    """Return the commit of the git checkout, or None if this directory is not a git checkout or git is not installed."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else ".env")
    made = write(path, commit=_commit())
    sys.stdout.write(f"{path}: {f'{len(made)} fresh secrets' if made else 'nothing was missing'}\n")


if __name__ == "__main__":
    main()
