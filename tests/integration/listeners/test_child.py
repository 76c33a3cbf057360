"""A wake-up does not pay for the import of a large library."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from forked_modules import loaded_after_fork

from listeners.job import handler_module
from shared.events import Stage

LARGE = {
    Stage.SNAPSHOT: {"mlflow", "matplotlib.backends.backend_agg", "numpy", "pyarrow.parquet"},
    Stage.TRAINING: {"mlflow.sklearn", "matplotlib.backends.backend_agg", "skops.io", "sklearn.svm"},
}


@pytest.mark.parametrize("stage", Stage)
def test_a_child_is_forked_with_the_large_libraries_of_its_stage(stage):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        loaded = pool.submit(loaded_after_fork, handler_module(stage)).result()
    assert LARGE[stage] <= loaded
