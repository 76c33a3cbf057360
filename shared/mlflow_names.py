"""Define the names in MLflow: experiments, runs, artifacts, tags and the registered model."""

import re
from typing import Final

DATASET_EXPERIMENT: Final = "rakuten_dataset_versioning"
MODEL_EXPERIMENT: Final = "rakuten_model_training"
REGISTERED_MODEL: Final = "rakuten_classifier"
CHAMPION: Final = "champion"

TEST_SET: Final = "test_df"
HOLDOUT_SET: Final = "holdout_df"


class Artifact:
    """The names of the artifacts (files, and the model's folder) that runs log to MLflow."""

    CLASS_DISTRIBUTION: Final = "class_distribution.png"
    DATASET_STATS: Final = "dataset_stats.json"
    MODEL: Final = "model"
    CONFUSION_MATRIX: Final = "confusion_matrix.png"
    CLASSIFICATION_REPORT: Final = "classification_report.txt"
    COVERAGE: Final = "coverage.json"  # for each accuracy target, the threshold and the share of the holdout that reaches it
    RISK_COVERAGE: Final = "risk_coverage.png"
    RELIABILITY: Final = "reliability.png"
    HOLDOUT_PREDICTIONS: Final = "holdout_predictions.parquet"
    LABEL_SUSPECTS: Final = "label_suspects.csv"  # training products whose label is probably wrong
    SUBMISSION: Final = "test_predictions.csv"  # the predictions of the test set, for the Rakuten challenge
    SUSPECTS_SUMMARY: Final = (
        "label_suspects.json"  # how many there are, and the first 20, as PostgreSQL records them
    )
    CARD: Final = "card.html"  # the data card or the model card, which MLflow shows
    CROISSANT: Final = "croissant.json"  # the columns of a dataset, for tools that read the Croissant format
    DRIFT: Final = "drift.json"  # the new products compared with those of earlier weeks
    DRIFT_SAMPLE: Final = "drift_sample.parquet"  # the products that drift compares: group and productid
    MANIFEST: Final = "manifest.json"  # SHA-256 and size of every other artifact of the run, by path
    ENVIRONMENT: Final = "environment.json"


class Param:
    """The names of the params that the code itself reads."""

    ENGINE: Final = "engine"  # local or spark; runs of earlier versions lack it
    RANDOM_SEED: Final = "random_seed"
    TRAINER: Final = "trainer"


class Tag:
    """The names of the tags that runs and model versions have in MLflow."""

    BATCH_ID: Final = "batch_id"
    BATCH_NUMBER: Final = "batch_number"  # the batch's number in the hash chain
    BATCH_SEAL: Final = "batch_seal"
    DATABASE: Final = "database"  # the identity of the database that owns the experiment, model or run
    SOURCE_SHA256: Final = "source_sha256"
    ATTEMPT: Final = "attempt"
    DATASET_DIGEST: Final = "dataset_digest"  # digest of the rows; see listeners/snapshot/dataset_digest.py
    DATASET_SHA256: Final = "dataset_sha256"
    DATASET_URI: Final = (
        "dataset_uri"  # the folder in DATASET_STORE; only datasets that Spark has built have it
    )
    DATASET_NAME: Final = "dataset_name"
    DATASET_RUN_ID: Final = "dataset_run_id"
    MODEL_URI: Final = "model_uri"
    MODEL_SHA256: Final = "model_parameters_sha256"
    SUPERSEDED: Final = "superseded"


def dataset_name(batch_name: str) -> str:
    """Return the name of a batch's dataset: `train_week_7` for week_7, `train_correction_2` for correction_2."""
    return f"train_{batch_name}"


def model_run_name(batch_name: str) -> str:
    return f"model_{batch_name}"


def promotion_name(attempt: int) -> str:
    """Return the name of the artifact in which an attempt of the training stage logs the comparison with the champion."""
    return "promotion.json" if attempt == 1 else f"promotion_{attempt}.json"


_DATASET_NAME: Final = re.compile("[a-z0-9_]+", re.ASCII)


def parquet_name(dataset: str) -> str:
    """Return the name of a dataset's parquet file.

    Raises:
        ValueError: the dataset's name has a character that is not allowed. The name becomes part of a path, and a name with
            a slash could lead to another directory.
    """
    if not _DATASET_NAME.fullmatch(dataset):
        raise ValueError(f"{dataset!r} is not a dataset's name: only a-z, 0-9 and _ are allowed")
    return f"{dataset}.parquet"
