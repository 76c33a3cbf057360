"""Fetch the datasets of the training stage from MLflow, check their digests, and count the copies of each product."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Run

from listeners.tracking.runs import Tracking
from listeners.training.features import distinct_products
from listeners.training.text import TEXT_COLUMNS
from shared.errors import StageError, VerificationError
from shared.hashing import require_sha256
from shared.mlflow_names import DATASET_EXPERIMENT, Tag, parquet_name


@dataclass(frozen=True)
class TrainingData:
    """The distinct products of a dataset, sorted by productid, and how many copies of each product the dataset holds.

    `products` has the columns designation and description; `labels` and `multiplicities` are int64 of shape (products,).
    """

    products: pd.DataFrame
    labels: npt.NDArray[np.int64]
    multiplicities: npt.NDArray[np.int64]


def find_dataset(tracking: Tracking, name: str, **tags: str) -> Run:
    """Return the finished run that holds a dataset.

    Raises:
        StageError: MLflow has no finished run with this name and these tags.
    """
    run = tracking.finished_run(DATASET_EXPERIMENT, name, **tags)
    if run is None:
        raise StageError(
            f"MLflow holds no finished run {name} in {DATASET_EXPERIMENT}",
            remedy="check that MLFLOW_TRACKING_URI is the snapshot listener's; if so, the run was deleted from MLflow",
        )
    return run


def fetch(tracking: Tracking, run: Run, directory: Path) -> Path:
    """Download the parquet file of a dataset's run, check its SHA-256, and return its path.

    Raises:
        StageError: the file cannot be downloaded.
        VerificationError: the file is not the file that was logged, or the run has lost the tag with the file's SHA-256.
    """
    if (expected := run.data.tags.get(Tag.DATASET_SHA256)) is None:
        raise VerificationError(
            f"run {run.info.run_id} has no tag {Tag.DATASET_SHA256}: its file cannot be checked",
            remedy="rakuten verify names what was changed; rakuten reproduce rebuilds the dataset",
        )
    path = tracking.download(run, parquet_name(run.info.run_name), directory)
    require_sha256(path, expected)
    return path


def read_training_data(path: Path) -> TrainingData:
    """Read a dataset and collapse its copies: memory holds each text once, however often the dataset repeats the text."""
    texts = list(TEXT_COLUMNS)
    # read_dictionary keeps each distinct text once per row group while the file is read
    dataset = pq.read_table(path, columns=["productid", *texts, "prdtypecode"], read_dictionary=texts)
    rows, copies = distinct_products(dataset)
    return TrainingData(
        products=pd.DataFrame({name: rows[name].cast(pa.string()).to_pandas() for name in texts}),
        labels=rows["prdtypecode"].to_numpy().astype(np.int64),
        multiplicities=copies.astype(np.int64),
    )


def read_frame(path: Path) -> pd.DataFrame:
    """Read a fixed set, the holdout or the test set, without any change."""
    frame: Any = pq.read_table(path).to_pandas()
    return pd.DataFrame(frame)
