"""The datasets as the training stage sees them: fetched from MLflow, checked against their digest, copies counted."""

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
    """Distinct products in the order of productid, and how many copies of each the dataset holds.

    `products` has the columns designation and description; `labels` and `multiplicities` are int64 of shape (products,).
    """

    products: pd.DataFrame
    labels: npt.NDArray[np.int64]
    multiplicities: npt.NDArray[np.int64]


def find_dataset(tracking: Tracking, name: str, **tags: str) -> Run:
    """The finished run of a dataset.

    Raises:
        StageError: MLflow has none.
    """
    run = tracking.finished_run(DATASET_EXPERIMENT, name, **tags)
    if run is None:
        raise StageError(
            f"MLflow holds no finished run {name} in {DATASET_EXPERIMENT}",
            remedy="was MLflow emptied, or is MLFLOW_TRACKING_URI another than the snapshot listener's?",
        )
    return run


def fetch(tracking: Tracking, run: Run, directory: Path) -> Path:
    """The parquet file of a dataset's run, its SHA-256 checked.

    Raises:
        StageError: it cannot be fetched.
        VerificationError: it is not the file that was logged, or its run no longer says which one that was.
    """
    if (expected := run.data.tags.get(Tag.DATASET_SHA256)) is None:
        raise VerificationError(
            f"run {run.info.run_id} has no tag {Tag.DATASET_SHA256}: its file cannot be checked",
            remedy="rakuten verify says what was changed; rakuten reproduce builds it again",
        )
    path = tracking.download(run, parquet_name(run.info.run_name), directory)
    require_sha256(path, expected)
    return path


def read_training_data(path: Path) -> TrainingData:
    """Collapse the copies: a text is held once however often the dataset repeats it."""
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
    """A fixed set, as it is."""
    frame: Any = pq.read_table(path).to_pandas()
    return pd.DataFrame(frame)
