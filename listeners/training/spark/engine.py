"""Fit a batch's model on Apache Spark, from a dataset of either engine (ENGINE=spark)."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import structlog
from pyspark import StorageLevel

from listeners.datasets.manifest import MANIFEST, Manifest, Part
from listeners.datasets.store import Store, dataset_store
from listeners.drift.groups import NEW
from listeners.spark.session import describe, spark_session
from listeners.training.drift import words_of
from listeners.training.engine import Fitted, Request
from listeners.training.spark.fit import fit
from listeners.training.spark.products import count_earlier_words, read_products
from listeners.training.spark.training_data import collect_training_data
from shared.hashing import sha256_of

logger = structlog.get_logger()


def fit_model(request: Request) -> Fitted:
    """Fit the default model's features, and a linear classifier by Spark's solver, on a dataset.

    Raises:
        StageError: the dataset cannot be read, or executors died.
        VerificationError: the dataset differs from what was recorded.
        OutageError: the cluster or the store is unavailable.
    """
    with (
        _files(request) as (folder, parts),
        spark_session(request.settings, f"{request.name} (training)") as spark,
    ):
        products = read_products(spark, folder, parts).persist(StorageLevel.DISK_ONLY)
        model = fit(products, seed=request.seed, progress=_log_step)
        sampled = np.unique(np.concatenate([np.empty(0, np.int64), *request.sample.values()]))
        data = collect_training_data(products, model, sampled)
        words = frozenset().union(*map(words_of, data.products["designation"].dropna()))
        new = request.sample.get(NEW)
        earlier = {} if new is None else count_earlier_words(products, new, words)
        fitted_by = describe(spark)
    return Fitted(data, model, "spark", fitted_by, earlier)


@contextmanager
def _files(request: Request) -> Iterator[tuple[Store, Sequence[Part]]]:
    """Yield the folder and the files of a dataset.

    If DATASET_STORE lacks them, because the local engine has built the dataset or somebody has removed the folder, they are
    fetched from MLflow and put there for the workers.
    """
    if request.uri is not None:
        folder = Store(request.uri)
        if folder.has(MANIFEST):
            yield folder, Manifest.read(folder, request.sha256).parts
            return
    path = request.fetch()
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    folder = dataset_store(request.settings).folder("training").folder(uuid4().hex)
    folder.create()
    try:
        yield folder, [_put(file, folder, number) for number, file in enumerate(files)]
    finally:
        folder.remove()


def _put(file: Path, folder: Store, number: int) -> Part:
    name = f"part-{number:06d}.parquet"
    with folder.writing(name) as copy:
        shutil.copyfile(file, copy)
    size = file.stat().st_size
    return Part(number=number, name=name, products=0, rows=0, size=size, sha256=sha256_of(file))


def _log_step(step: str) -> None:
    logger.info(step)
