"""SHA-256 of files: what a dataset is known by."""

import hashlib
from pathlib import Path

from shared.errors import VerificationError


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_sha256(path: Path, expected: str) -> None:
    """Refuse a file that is not the one that was logged.

    Raises:
        VerificationError: the digests differ.
    """
    found = sha256_of(path)
    if found != expected:
        raise VerificationError(f"{path.name} has SHA-256 {found}, but its run says {expected}")
