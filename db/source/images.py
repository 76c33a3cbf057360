"""Count the image files that are missing. The pipeline stores the paths of the images, and never reads the files."""

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from db.source.csv_file import open_csv
from db.source.file_names import find_source_file
from db.source.training_set import X_TEST, X_TRAIN, image_paths


@dataclass(frozen=True)
class MissingImages:
    """How many of the `images` that the products of a file name are missing in a folder, and the name of the first of them."""

    folder: Path
    images: int
    missing: int
    first: str | None


def missing_images(directory: Path) -> list[MissingImages]:
    """Count the missing images of each image folder that exists. The source files in `directory` must have no problem."""
    counts = []
    for name, subfolder in ((X_TRAIN, "image_train"), (X_TEST, "image_test")):
        folder = directory / "images" / subfolder
        if not folder.is_dir():
            continue
        there = {entry.name for entry in os.scandir(folder)}
        images, missing = 0, []
        for block in open_csv(find_source_file(directory, name), ["productid", "imageid"]).blocks():
            ids = block.text.cast(pa.schema({"productid": pa.int64(), "imageid": pa.int64()}))
            names = [path.rpartition("/")[2] for path in image_paths(ids, subfolder).to_pylist()]
            images += len(names)
            missing += [name for name in names if name not in there]
        counts.append(MissingImages(folder, images, len(missing), next(iter(missing), None)))
    return counts
