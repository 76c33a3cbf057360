"""What runs, artifacts, tags and metrics are called in MLflow."""

import re
from typing import Final

DATASET_EXPERIMENT: Final = "rakuten_dataset_versioning"
MODEL_EXPERIMENT: Final = "rakuten_model_training"
REGISTERED_MODEL: Final = "rakuten_classifier"
CHAMPION: Final = "champion"

TEST_SET: Final = "test_df"
HOLDOUT_SET: Final = "holdout_df"


class Artifact:
    """Artifacts of runs."""

    CLASS_DISTRIBUTION: Final = "class_distribution.png"
    DATASET_STATS: Final = "dataset_stats.json"
    MODEL: Final = "model"
    CONFUSION_MATRIX: Final = "confusion_matrix.png"
    CLASSIFICATION_REPORT: Final = "classification_report.txt"
    HOLDOUT_PREDICTIONS: Final = "holdout_predictions.parquet"
    SUBMISSION: Final = "test_predictions.csv"  # the challenge's submission format
    PROMOTION: Final = "promotion.json"
    MANIFEST: Final = "manifest.json"  # SHA-256 of every other artifact of the run, by path
    ENVIRONMENT: Final = "environment.json"


class Tag:
    """Tags of runs and of model versions."""

    BATCH_ID: Final = "batch_id"
    BATCH_COMPLETED_AT: Final = "batch_completed_at"
    BATCH_SEAL: Final = "batch_seal"
    SOURCE_SHA256: Final = "source_sha256"
    ATTEMPT: Final = "attempt"
    DATASET_DIGEST: Final = "dataset_digest"  # of the content: listeners/snapshot/dataset_digest.py
    DATASET_SHA256: Final = "dataset_sha256"
    DATASET_NAME: Final = "dataset_name"
    DATASET_RUN_ID: Final = "dataset_run_id"
    MODEL_URI: Final = "model_uri"
    MODEL_SHA256: Final = "model_parameters_sha256"
    SUPERSEDED: Final = "superseded"


def dataset_name(batch_name: str) -> str:
    """`train_week_7` for week_7, `train_correction_2` for correction_2."""
    return f"train_{batch_name}"


def model_run_name(batch_name: str) -> str:
    return f"model_{batch_name}"


_DATASET_NAME: Final = re.compile("[a-z0-9_]+", re.ASCII)


def parquet_name(dataset: str) -> str:
    """The file of a dataset.

    Raises:
        ValueError: the name could lead to another directory: it becomes part of a path, so it is not taken on trust.
    """
    if not _DATASET_NAME.fullmatch(dataset):
        raise ValueError(f"{dataset!r} is no dataset's name")
    return f"{dataset}.parquet"
