"""Describe a dataset that is a folder of parquet files: its manifest names each file, with rows and SHA-256.

The manifest is written last. A folder without a manifest is the left-over of an attempt that failed.
"""

import shutil
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from listeners.datasets.store import Store
from shared.errors import StageError, VerificationError
from shared.hashing import sha256_of

MANIFEST: Final = "_manifest.json"  # readers of a folder of parquet files skip names that begin with _
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Part(_Record):
    """One parquet file of a dataset.

    Attributes:
        number: the file holds the products whose newest history entry has an id h with h // entries_per_part == number.
        name: name of the file.
        products: number of distinct products.
        rows: number of rows, with all copies.
        size: bytes of the file.
        sha256: SHA-256 of the file.
    """

    number: _Count
    name: Annotated[str, Field(pattern=r"^part-[0-9]{6,}\.parquet$")]
    products: _Count
    rows: _Count
    size: _Count
    sha256: _Sha256


class Manifest(_Record):
    """What a dataset consists of.

    Attributes:
        version: version of this format.
        dataset: name of the dataset, for example train_week_7.
        batch_id: id of the batch.
        random_seed: the seed that has decided which rows have one copy more.
        products_up_to: last id in products_history that belongs to the batch.
        labels_up_to: last id in labels_history that belongs to the batch.
        entries_per_part: number of history ids whose products one file holds.
        products: number of distinct products.
        rows: number of rows, with all copies.
        dataset_digest: digest of the content, the same for each engine (listeners/snapshot/dataset_digest.py).
        parts: the files, ascending by number.
    """

    version: Literal[1] = 1
    dataset: str
    batch_id: int
    random_seed: int
    products_up_to: _Count
    labels_up_to: _Count
    entries_per_part: Annotated[int, Field(ge=1)]
    products: _Count
    rows: _Count
    dataset_digest: _Sha256
    parts: list[Part]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(part.size for part in self.parts)

    @property
    def content(self) -> bytes:
        """The bytes of the manifest's file."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the manifest's file. Through the SHA-256 in it, it covers each byte of the dataset."""
        return sha256(self.content).hexdigest()

    def write(self, folder: Store) -> None:
        folder.write(MANIFEST, self.content)

    @classmethod
    def read(cls, folder: Store, expected_sha256: str) -> Self:
        """Read the manifest in a dataset's folder, and check that it is the one that was recorded.

        Raises:
            StageError: the folder has no manifest.
            VerificationError: the manifest differs from the recorded one.
        """
        try:
            content = folder.read(MANIFEST)
        except FileNotFoundError as error:
            raise StageError(
                f"there is no dataset in {folder.uri}",
                remedy="restore the folder, or rebuild the dataset: rakuten reproduce",
            ) from error
        if (found := sha256(content).hexdigest()) != expected_sha256:
            raise VerificationError(
                f"{MANIFEST} in {folder.uri} has SHA-256 {found}, but {expected_sha256} was recorded"
            )
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise VerificationError(f"{MANIFEST} in {folder.uri} is malformed: {error}") from error

    def require_unchanged(self, folder: Store) -> None:
        """Check the SHA-256 of each file of the dataset; raise VerificationError for the first one that differs or is missing."""
        for part in self.parts:
            try:
                with folder.reading(part.name) as path:
                    found = sha256_of(path)
            except FileNotFoundError as error:
                raise VerificationError(f"{part.name} is missing in {folder.uri}") from error
            if found != part.sha256:
                raise VerificationError(
                    f"{part.name} in {folder.uri} has SHA-256 {found}, but its manifest has {part.sha256}"
                )


def complete_folder(path: Path, store: Store, expected_sha256: str) -> Manifest:
    """Copy the files that a local folder lacks from the dataset's folder in DATASET_STORE, and check all files.

    Args:
        path: a local folder with the manifest, and with all files or none.
        store: the folder in DATASET_STORE.
        expected_sha256: of the manifest.

    Raises:
        StageError: the folder has no manifest.
        VerificationError: the manifest or a file differs from what was recorded, or a file is missing.
    """
    folder = Store(str(path))
    manifest = Manifest.read(folder, expected_sha256)
    for part in manifest.parts:
        if not (path / part.name).exists():
            try:
                with store.reading(part.name) as source, folder.writing(part.name) as target:
                    shutil.copyfile(source, target)
            except FileNotFoundError as error:
                raise VerificationError(f"{part.name} is missing in {store.uri}") from error
    manifest.require_unchanged(folder)
    return manifest
