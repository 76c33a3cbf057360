"""Check the image files: which are missing, cannot be read, or equal another one. The pipeline stores their paths, and never reads them."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from db.source.csv_file import open_csv
from db.source.file_names import find_source_file
from db.source.training_set import X_TEST, X_TRAIN, image_paths

# JPEG files are decoded at an eighth of their size, which is much faster and finds the same damage.
_DECODED_SIZE: Final = (64, 64)


@dataclass(frozen=True)
class ImageFolder:
    """What is wrong with the images in a folder.

    Attributes:
        folder: the folder.
        images: number of images that the products of the file X_train.csv or X_test.csv name.
        missing: names of those that are not there, in file order.
        unreadable: names of those that are damaged or no image; None if Pillow is not installed, so that nobody could tell.
        repeated: number of images whose file has the same content as that of an earlier product.
    """

    folder: Path
    images: int
    missing: list[str]
    unreadable: list[str] | None
    repeated: int


def check_images(
    directory: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Iterator[ImageFolder]:
    """Check the images of each image folder that exists. The source files in `directory` must have no problem.

    Args:
        directory: the folder of the source files.
        progress: called with the number of images of the folder that were read, and the number of all that are there.
    """
    for file, subfolder in ((X_TRAIN, "image_train"), (X_TEST, "image_test")):
        folder = directory / "images" / subfolder
        if folder.is_dir():
            yield _check_folder(folder, list(_names(find_source_file(directory, file), subfolder)), progress)


def _names(file: Path, subfolder: str) -> Iterator[str]:
    for block in open_csv(file, ["productid", "imageid"]).blocks():
        ids = block.text.cast(pa.schema({"productid": pa.int64(), "imageid": pa.int64()}))
        for path in image_paths(ids, subfolder).to_pylist():
            yield path.rpartition("/")[2]


def _check_folder(folder: Path, names: list[str], progress: Callable[[int, int], None]) -> ImageFolder:
    there = {entry.name for entry in os.scandir(folder)}
    present = [name for name in names if name in there]
    decode = _decoder()
    contents: Counter[bytes] = Counter()
    unreadable = []

    def read(name: str) -> tuple[bytes, bool]:
        content = (folder / name).read_bytes()
        return hashlib.sha256(content).digest(), decode is None or decode(content)

    with ThreadPoolExecutor() as threads:
        for done, (name, (digest, is_readable)) in enumerate(
            zip(present, threads.map(read, present), strict=True), start=1
        ):
            contents[digest] += 1
            if not is_readable:
                unreadable.append(name)
            progress(done, len(present))
    return ImageFolder(
        folder,
        len(names),
        [name for name in names if name not in there],
        None if decode is None else unreadable,
        len(present) - len(contents),
    )


def _decoder() -> Callable[[bytes], bool] | None:
    """Return a function that takes the content of a file, and returns whether it is an image. Without Pillow, return None."""
    try:
        from PIL import Image  # noqa: PLC0415
    except ModuleNotFoundError:
        return None

    def decode(content: bytes) -> bool:
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.draft("L", _DECODED_SIZE)
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return False  # Pillow raises any of these for damaged files
        return True

    return decode
