"""Download the datasets that training needs from MLflow, check their SHA-256, and count the copies of each product."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Run

from listeners.datasets.manifest import complete_folder
from listeners.datasets.store import Store
from listeners.tracking.runs import Tracking
from listeners.training.calibration import text_folds
from listeners.training.features import distinct_products
from listeners.training.text import TEXT_COLUMNS
from listeners.training.trainers import TrainingInput
from shared.errors import StageError, VerificationError
from shared.hashing import require_sha256
from shared.mlflow_names import DATASET_EXPERIMENT, Tag, parquet_name


@dataclass(frozen=True)
class TrainingData:
    """The distinct products of a dataset, sorted by productid, and how many copies of each product the dataset holds.

    `products` has the columns designation, description and image_path. `productids` has the productid of each product, `labels` its class, and
    `multiplicities` the number of its copies; all are int64 of shape (n_products,).
    """

    products: pd.DataFrame
    productids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    multiplicities: npt.NDArray[np.int64]


def find_dataset(tracking: Tracking, name: str, **tags: str) -> Run:
    """Return the finished MLflow run of a dataset that has this name (for example train_week_7) and these tags.

    Raises:
        StageError: MLflow has no finished run with this name and these tags.
    """
    run = tracking.finished_run(DATASET_EXPERIMENT, name, **tags)
    if run is None:
        raise StageError(
            f"MLflow has no finished run {name} in the experiment {DATASET_EXPERIMENT}",
            remedy="give MLFLOW_TRACKING_URI the snapshot listener's value; if it has this value, the run was deleted",
        )
    return run


def fetch(tracking: Tracking, run: Run, directory: Path) -> Path:
    """Put the parquet file of a dataset's run, or its folder of files, into a directory. Check each SHA-256, and return the path.

    The files of a folder that are too large for MLflow come from DATASET_STORE.

    Raises:
        StageError: a file cannot be downloaded.
        VerificationError: the SHA-256 of a file is not the recorded one, or the run has no tag `dataset_sha256`.
    """
    if (expected := run.data.tags.get(Tag.DATASET_SHA256)) is None:
        raise VerificationError(
            f"run {run.info.run_id} has no tag {Tag.DATASET_SHA256}, so its dataset file cannot be checked",
            remedy="`rakuten verify` shows what was changed in MLflow; `rakuten reproduce` rebuilds the dataset",
        )
    if (uri := run.data.tags.get(Tag.DATASET_URI)) is not None:
        path = tracking.download(run, run.info.run_name, directory)
        complete_folder(path, Store(uri), expected)
        return path
    path = tracking.download(run, parquet_name(run.info.run_name), directory)
    require_sha256(path, expected)
    return path


def read_training_data(path: Path) -> TrainingData:
    """Read a balanced dataset, a parquet file or a folder of files. Return each product once with its number of copies."""
    texts = [*TEXT_COLUMNS, "image_path"]
    # With read_dictionary, memory holds each distinct text once for each row group, not once for each copy of a product.
    dataset = pq.read_table(path, columns=["productid", *texts, "prdtypecode"], read_dictionary=texts)
    rows, copies = distinct_products(dataset)
    return TrainingData(
        products=pd.DataFrame({name: rows[name].cast(pa.string()).to_pandas() for name in texts}),
        productids=rows["productid"].to_numpy(),
        labels=rows["prdtypecode"].to_numpy().astype(np.int64),
        multiplicities=copies.astype(np.int64),
    )


def read_frame(path: Path) -> pd.DataFrame:
    """Read the parquet file of the holdout or of the test set, with all its rows and columns."""
    frame: Any = pq.read_table(path).to_pandas()
    return pd.DataFrame(frame)


def training_input(
    data: TrainingData,
    *,
    seed: int,
    processes: int | None,
    scratch: Path,
    progress: Callable[[str], None] = lambda _step: None,
) -> TrainingInput:
    """Return what a trainer gets; see `trainers.TrainingInput`."""
    folds = text_folds(data.products, seed=seed)
    return TrainingInput(
        data.products, data.labels, data.multiplicities, folds, seed, processes, scratch, progress
    )
