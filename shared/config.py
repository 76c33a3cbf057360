"""One frozen settings object, read once at the entry point from the environment and `.env`, and passed down."""

import os
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import BadInputError

Percentage = Annotated[Decimal, Field(gt=0, le=100, decimal_places=2)]


class Settings(BaseSettings):
    """Every setting of the pipeline. Names are those of the environment variables, in lower case."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    postgres_host: str | None = Field(None, description="unset: the embedded PostgreSQL under STATE_PATH")
    postgres_port: int = Field(5432, ge=1, le=65535)
    postgres_db: str = "rakuten_db"
    postgres_user: str | None = None
    postgres_password: SecretStr | None = None
    pg_bindir: Path | None = Field(None, description="PostgreSQL binaries for the embedded server")

    mlflow_tracking_uri: str | None = Field(
        None, repr=False, description="unset: sqlite and local artifacts under STATE_PATH"
    )
    mlflow_backend_store_uri: SecretStr | None = Field(None, description="for the MLflow server only")
    mlflow_artifact_root: str | None = Field(None, description="for the MLflow server only")

    initial_percentage: Percentage = Decimal(40)
    increment_percentage: Percentage = Decimal(3)
    max_percentage: Percentage = Decimal(100)
    random_seed: int = Field(42, ge=-(2**63), lt=2**63)
    holdout_percentage: int = Field(10, ge=1, le=50)
    balancing_strategy: Literal["random_oversampling"] = "random_oversampling"

    data_path: Path = Path("data/raw")
    state_path: Path = Path("data")

    airflow_schedule: str = "0 0 * * 1"

    git_commit: str | None = Field(
        None, description="recorded where there is no checkout to ask, as in an image"
    )

    openlineage_url: AnyHttpUrl | None = Field(
        None, repr=False, description="where events go besides STATE_PATH/openlineage.jsonl"
    )
    openlineage_namespace: str = Field("rakuten", min_length=1, description="of the jobs in the events")
    openlineage_api_key: SecretStr | None = None
    openlineage_disabled: bool = False

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: JSON unless on a terminal"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    poll_interval_s: float = Field(10.0, gt=0, description="how often a listener reads the tables unasked")
    ping_interval_s: float = Field(5.0, gt=0, description="how often a listener proves that it is not deaf")
    ping_deadline_s: float = Field(
        3.0, gt=0, description="how long a ping may take before the connection is dropped"
    )
    max_attempts: int = Field(5, ge=1, description="failures of a stage on one batch before it gives up")
    retry_base_s: float = Field(
        2.0, gt=0, description="delay after the first failure; it doubles with each further one"
    )
    retry_max_s: float = Field(300.0, gt=0)
    outage_retry_max_s: float = Field(
        5.0, gt=0, description="longest delay between attempts while MLflow, PostgreSQL or disk space is away"
    )
    grace_period_s: float = Field(
        20.0, ge=0, description="after SIGTERM: time to finish before the work is handed back"
    )

    @field_validator("state_path", "data_path", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.initial_percentage > self.max_percentage:
            raise ValueError("INITIAL_PERCENTAGE is above MAX_PERCENTAGE")
        if self.postgres_host and not self.postgres_user:
            raise ValueError("POSTGRES_HOST is set but POSTGRES_USER is not")
        return self

    # the layout of STATE_PATH

    @property
    def postgres_path(self) -> Path:
        """The embedded PostgreSQL: data, password, log and lock."""
        return self.state_path / "postgres"

    @property
    def mlflow_path(self) -> Path:
        """MLflow's sqlite file and artifacts, where MLFLOW_TRACKING_URI names no server."""
        return self.state_path / "mlflow"

    @property
    def snapshots_path(self) -> Path:
        """A copy of each dataset's parquet file."""
        return self.state_path / "training_snapshots"

    @property
    def logs_path(self) -> Path:
        """The log of each listener that a command has started."""
        return self.state_path / "logs"

    @property
    def openlineage_path(self) -> Path:
        """The OpenLineage events, one a line."""
        return self.state_path / "openlineage.jsonl"

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is: MLFLOW_TRACKING_URI, or the sqlite file under STATE_PATH."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.mlflow_path / 'mlflow.db'}"

    @property
    def last_week(self) -> int:
        """The week that reaches MAX_PERCENTAGE; week 1 is the initial load."""
        increments = (self.max_percentage - self.initial_percentage) / self.increment_percentage
        return 1 + int(-((-increments).to_integral_value(ROUND_FLOOR)))

    def percentage_of(self, week: int) -> Decimal:
        """What share of the training rows PostgreSQL holds at the end of a week, in percent."""
        raised = self.initial_percentage + (week - 1) * self.increment_percentage
        return min(raised, self.max_percentage)


def target_rows(total_rows: int, percentage: Decimal) -> int:
    """floor(total x percentage / 100), exact: a float would lose a row at some percentages."""
    return int((total_rows * percentage / 100).to_integral_value(ROUND_FLOOR))


def read_settings(**overrides: object) -> Settings:
    """The settings from the environment and `.env`; `overrides` (by field name) win over both.

    Raises:
        BadInputError: a setting is malformed; the message names each variable and what is wrong.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [
            f"  {'.'.join(map(str, detail['loc'])).upper() or 'settings'}: {detail['msg']}"
            for detail in details
        ]
        raise BadInputError(
            "\n".join(["malformed settings", *lines]),
            remedy="correct the environment or .env; .env.example lists every variable",
        ) from None


def configure_third_parties() -> None:
    """Settings that libraries read from the environment only.

    No usage reports to their makers, no progress bars in logs. And MLflow's client gives up within seconds, not minutes: a
    stage that fails on an outage is tried again soon, and a client that hangs in its own retries would learn late that the
    server is back. Arrow uses malloc: its own allocator keeps twice the memory that a snapshot needs (docs/performance.md). Arrow
    reads that once, when it is imported: a listener's children see it, which do the work.
    """
    for name, value in {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }.items():
        os.environ.setdefault(name, value)


def environment_for(settings: Settings) -> dict[str, str]:
    """The environment in which a child process reads just these settings, given a working directory without a `.env`."""
    environment = dict(os.environ)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if plain is None:
            environment.pop(name.upper(), None)
        else:
            environment[name.upper()] = str(plain)
    return environment
