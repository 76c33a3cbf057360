"""What the snapshot stage asks of its engine, which the setting ENGINE names: build one dataset, and log its files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from listeners.job import Job
from listeners.snapshot.drift import DriftSample
from listeners.snapshot.rows import RowsSummary
from listeners.tracking.runs import Publication
from shared.config import Settings


@dataclass(frozen=True)
class Request:
    """The dataset to build.

    Attributes:
        job: the job of the snapshot stage.
        name: name of the dataset, for example train_week_7.
        database: identity of the database.
        connection: a connection with the role of the snapshot stage.
        run: the MLflow run to which the engine logs the files of the dataset.
        sample: the products that drift compares. The engine collects their rows.
    """

    job: Job
    name: str
    database: str
    connection: psycopg.Connection[TupleRow]
    run: Publication
    sample: DriftSample


@dataclass(frozen=True)
class Built:
    """A dataset that was built, verified and logged.

    Attributes:
        stats: numbers of rows, products and classes; see `listeners.snapshot.local.build`.
        sha256: SHA-256 of the parquet file, or of the manifest of a folder of files.
        digest: digest of the content, the same for each engine.
        rows: what the data card says about the texts.
        file: the artifact with the rows: a parquet file, or a folder. A folder is empty but for its manifest if its files are too large
            for MLflow.
        uri: the folder in DATASET_STORE with the files; None if only MLflow has them.
        recorded: what PostgreSQL records with the dataset about the local copy.
        built_by: the engine in words, for the data card.
    """

    stats: dict[str, Any]
    sha256: str
    digest: str
    rows: RowsSummary
    file: str
    uri: str | None = None
    recorded: Mapping[str, str] = field(default_factory=dict)
    built_by: str = "the local engine"


Engine = Callable[[Request], Built]


def engine_of(settings: Settings) -> Engine:
    """Return the engine that the setting ENGINE names. It imports pyspark only for ENGINE=spark, which needs it."""
    if settings.engine == "spark":
        from listeners.snapshot.spark.engine import build_dataset as build_on_spark  # noqa: PLC0415

        return build_on_spark
    from listeners.snapshot.local import build_dataset  # noqa: PLC0415  it imports this module

    return build_dataset
