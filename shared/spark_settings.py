"""The settings of the engine that builds the datasets and fits the models (`shared.config.Settings` inherits them)."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


class EngineSettings(BaseSettings):
    """Which engine works, and where Apache Spark runs. A field has the name of its environment variable in lower case."""

    engine: Literal["local", "spark"] = Field(
        "local",
        description="what builds the datasets and fits the models: this process, or Apache Spark",
    )
    spark_master: str = Field(
        "local[*]", description="where Apache Spark runs: local[cores], spark://host:port, yarn or k8s://..."
    )
    spark_conf: Path | None = Field(
        None, description="a file with Spark's own settings (spark.*), one a line"
    )
    spark_postgres_connections: int = Field(
        4, ge=1, description="how many of Spark's tasks read PostgreSQL at once, each with a connection"
    )
    dataset_store: str | None = Field(
        None,
        repr=False,
        description="folder or URI that every Spark worker reaches, for the datasets; if unset: STATE_PATH/datasets",
    )
    dataset_upload_limit: int = Field(
        1 << 30,
        ge=0,
        description="bytes up to which the files of a dataset in DATASET_STORE also go to MLflow",
    )
    java_home: Path | None = Field(
        None, description="folder of the Java for Spark; if unset: the program java on the PATH"
    )

    @field_validator("spark_conf", "java_home", mode="after")
    @classmethod
    def _absolute_file(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @field_validator("dataset_store", mode="after")
    @classmethod
    def _absolute_folder(cls, store: str | None) -> str | None:
        """Make a folder absolute, because listeners and workers start in folders of their own. A URI is recorded, so it has no password."""
        if not store:
            return None
        if "://" not in store:
            return str(Path(store).expanduser().absolute())
        if "@" in urlsplit(store).netloc and urlsplit(store).scheme.startswith("s3"):
            raise ValueError(
                "a key in the address would be recorded with each dataset: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return store
