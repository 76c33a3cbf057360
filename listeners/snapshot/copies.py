"""Keep a copy of each dataset's parquet file in a local folder, where people find it and the next build reads it.

The training stage reads the file in MLflow, not the copy. So a copy that cannot be written (read-only mount, full disk) does not
fail the dataset. PostgreSQL records the error with the dataset's result, and a later job or start of the listener makes the
copy from the file in MLflow.
"""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psycopg
import structlog
from mlflow.exceptions import MlflowException
from psycopg.rows import TupleRow

from db.sql import query
from listeners.tracking.runs import Tracking
from shared.errors import PipelineError
from shared.hashing import require_sha256
from shared.logs import censor
from shared.mlflow_names import parquet_name

logger = structlog.get_logger()

COPY_ERROR: Final = "copy_error"  # the key in the result of a dataset that has no copy


def keep_copy(path: Path, directory: Path) -> dict[str, str]:
    """Copy a dataset's file to the local folder. Return what PostgreSQL records: nothing, or why there is no copy.

    The copy is written under a name of this process and then renamed. So no reader sees half a file, and two processes that
    write the same copy do not mix their bytes.
    """
    partial = directory / f".{path.name}.{os.getpid()}.partial"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, partial)
            partial.replace(directory / path.name)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        logger.warning(
            "the copy of the dataset cannot be written; it is made later", error=censor(str(error))
        )
        return {COPY_ERROR: censor(str(error))}
    return {}


def make_missing_copies(
    tracking: Tracking, connection: psycopg.Connection[TupleRow], directory: Path
) -> None:
    """Make the copies that an earlier job could not write, from the files in MLflow. Only log a copy that fails again."""
    for dataset, run_id, sha256 in connection.execute(query("snapshot/missing_copies")).fetchall():
        name = parquet_name(dataset)
        try:
            if (directory / name).exists():
                continue
            with TemporaryDirectory(prefix="rakuten-") as scratch:
                path = tracking.download(tracking.run(run_id), name, Path(scratch))
                require_sha256(path, sha256)
                if not keep_copy(path, directory):
                    logger.info("the copy of an earlier dataset is made", dataset=dataset)
        except (MlflowException, OSError, PipelineError) as error:
            logger.warning("the copy of a dataset cannot be made", dataset=dataset, error=censor(str(error)))
