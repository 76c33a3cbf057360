"""Read all settings from the environment and `.env` into one frozen object, once, at the entry point of a program."""

import os
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from shared.errors import BadInputError
from shared.spark_settings import EngineSettings

_HIGHEST_PORT = 65535
Percentage = Annotated[Decimal, Field(gt=0, le=100, decimal_places=2)]


class Settings(EngineSettings):
    """Every setting of the pipeline. A field has the name of its environment variable in lower case."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    postgres_host: str | None = Field(
        None,
        description="one host, or several joined by commas; if unset: the embedded PostgreSQL under STATE_PATH",
    )
    postgres_port: str = Field(
        "5432", description="one port for all hosts, or one for each, joined by commas"
    )
    postgres_db: str = Field("rakuten_db", description="name of the database")
    postgres_user: str | None = Field(
        None, description="login of the role for the program's own step; needed if POSTGRES_HOST is set"
    )
    postgres_password: SecretStr | None = Field(None, description="password of POSTGRES_USER")
    pg_bindir: Path | None = Field(None, description="folder of the embedded PostgreSQL's programs")

    mlflow_tracking_uri: str | None = Field(
        None, repr=False, description="if unset: sqlite and local artifacts under STATE_PATH"
    )
    mlflow_backend_store_uri: SecretStr | None = Field(None, description="for the MLflow server only")
    mlflow_artifact_root: str | None = Field(None, description="for the MLflow server only")
    mlflow_name_prefix: str = Field(
        "",
        pattern="^[A-Za-z0-9_-]{0,64}$",
        description="begins the names of the experiments and the registered model, if databases share one MLflow",
    )

    initial_percentage: Percentage = Field(
        Decimal(40), description="percentage of the training rows that week 1 loads"
    )
    increment_percentage: Percentage = Field(
        Decimal(3), description="percentage of the training rows that each further week adds"
    )
    max_percentage: Percentage = Field(
        Decimal(100), description="percentage of the training rows after which no week follows"
    )
    random_seed: int = Field(
        42, ge=-(2**63), lt=2**63, description="decides the order of the rows, the holdout and the copies"
    )
    holdout_percentage: int = Field(
        10, ge=1, le=50, description="share of the groups of equal texts that is held out for the evaluation"
    )
    balancing_strategy: Literal["random_oversampling"] = Field(
        "random_oversampling", description="how the classes of a dataset become equally large"
    )

    trainer: str = Field("linear_svm", description="name of the trainer, which fits the model of each batch")
    training_processes: int | None = Field(
        None,
        ge=1,
        description="number of processes that fit a model, without influence on the model; if it is not set, as many as cores and memory allow",
    )

    serve_host: str = Field("127.0.0.1", description="address on which the model server answers")
    serve_port: int = Field(
        8000, ge=1, le=_HIGHEST_PORT, description="port on which the model server answers"
    )
    serve_token: SecretStr | None = Field(
        None,
        description="bearer token that requests to the model server need; if it is not set, they need none",
    )

    metrics_port: int | None = Field(
        None,
        ge=1,
        lt=_HIGHEST_PORT,
        description="port on which a listener answers /metrics for Prometheus; if it is not set, it answers none. Each listener of a machine "
        "needs a port of its own: `rakuten up` gives the snapshot listener this port, and the training listener the next one",
    )
    metrics_host: str = Field("127.0.0.1", description="address on which a listener answers /metrics")

    data_path: Path = Field(Path("data/raw"), description="folder of the CSV files")
    state_path: Path = Field(Path("data"), description="folder for everything that the pipeline writes")

    airflow_schedule: str = Field("0 0 * * 1", description="cron expression of the weekly load in Airflow")

    git_commit: str | None = Field(
        None, description="recorded where there is no git checkout, as in an image"
    )

    openlineage_url: AnyHttpUrl | None = Field(
        None, repr=False, description="a server that also gets the events of STATE_PATH/openlineage.jsonl"
    )
    openlineage_namespace: str = Field("rakuten", min_length=1, description="namespace of the jobs")
    openlineage_api_key: SecretStr | None = Field(None, description="key for OPENLINEAGE_URL")
    openlineage_disabled: bool = Field(False, description="true: emit no OpenLineage events")

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: text on a terminal, JSON elsewhere"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least important messages that are logged"
    )

    poll_interval_s: float = Field(
        10.0, gt=0, description="seconds between two reads of the tables, in case a notification was lost"
    )
    ping_interval_s: float = Field(5.0, gt=0, description="seconds between two checks of the connection")
    ping_deadline_s: float = Field(
        3.0, gt=0, description="longest time for a ping before the connection counts as lost"
    )
    max_attempts: int = Field(5, ge=1, description="failures after which a stage gives a batch up")
    retry_base_s: float = Field(
        2.0, gt=0, description="delay after the first failure; each further failure doubles it"
    )
    retry_max_s: float = Field(300.0, gt=0, description="longest delay between attempts after a failure")
    outage_retry_max_s: float = Field(
        5.0, gt=0, description="longest delay between attempts in an outage of MLflow, PostgreSQL or disk"
    )
    stall_timeout_s: float = Field(
        60.0,
        gt=0,
        description="a child process without a sign of life for so long is killed; its batch is tried again",
    )
    grace_period_s: float = Field(
        20.0, ge=0, description="after SIGTERM: time to finish the work before its batch is released"
    )

    @field_validator("state_path", "data_path", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @field_validator("postgres_port", mode="before")
    @classmethod
    def _ports(cls, value: object) -> str:
        for port in str(value).split(","):
            if not port.strip().isdecimal() or not 1 <= int(port) <= _HIGHEST_PORT:
                raise ValueError(f"a port is a number from 1 to {_HIGHEST_PORT}")
        return str(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.initial_percentage > self.max_percentage:
            raise ValueError("INITIAL_PERCENTAGE is above MAX_PERCENTAGE")
        if self.postgres_host and not self.postgres_user:
            raise ValueError("POSTGRES_HOST is set but POSTGRES_USER is not")
        if self.postgres_port.count(",") not in {0, (self.postgres_host or "").count(",")}:
            raise ValueError(
                "POSTGRES_PORT must name one port, or as many ports as POSTGRES_HOST names hosts"
            )
        return self

    @property
    def postgres_address(self) -> tuple[str, str]:
        """The host and port that name the database to other programs: the first ones, if the settings list several."""
        return (self.postgres_host or "localhost").split(",")[0], self.postgres_port.split(",")[0]

    # The next six properties are the files and folders in the folder STATE_PATH.

    @property
    def postgres_path(self) -> Path:
        """The folder of the embedded PostgreSQL: its data, password, log and lock."""
        return self.state_path / "postgres"

    @property
    def mlflow_path(self) -> Path:
        """The folder of MLflow's sqlite file and artifacts. It is used if MLFLOW_TRACKING_URI is not set."""
        return self.state_path / "mlflow"

    @property
    def snapshots_path(self) -> Path:
        """The folder with a copy of each dataset's parquet file."""
        return self.state_path / "training_snapshots"

    @property
    def dataset_store_uri(self) -> str:
        """The folder or URI under which Spark writes the datasets: DATASET_STORE, or a folder in STATE_PATH."""
        return self.dataset_store or str(self.state_path / "datasets")

    @property
    def logs_path(self) -> Path:
        """The folder with the log of each listener that a `rakuten` command has started."""
        return self.state_path / "logs"

    @property
    def openlineage_path(self) -> Path:
        """The file of the OpenLineage events, with one event per line."""
        return self.state_path / "openlineage.jsonl"

    @property
    def tracking_uri(self) -> str:
        """The address of MLflow: MLFLOW_TRACKING_URI, or the sqlite file under STATE_PATH."""
        if self.mlflow_tracking_uri is not None:
            return self.mlflow_tracking_uri
        path = str(self.mlflow_path / "mlflow.db")
        if not {"?", "%"}.isdisjoint(path):
            # SQLAlchemy decodes the path. Before that, MLflow creates the parent folder of the path as it is written. If the
            # slashes are encoded, too, that path has no parent folder.
            path = quote(path, safe="")
        return f"sqlite:///{path}"

    @property
    def last_week(self) -> int:
        """The number of the week after which MAX_PERCENTAGE % of the training rows are loaded. Week 1 is the initial load."""
        increments = (self.max_percentage - self.initial_percentage) / self.increment_percentage
        return 1 + int(-((-increments).to_integral_value(ROUND_FLOOR)))

    def percentage_of(self, week: int) -> Decimal:
        """Return the share of the training rows that PostgreSQL holds at the end of a week, in percent."""
        raised = self.initial_percentage + (week - 1) * self.increment_percentage
        return min(raised, self.max_percentage)


def target_rows(total_rows: int, percentage: Decimal) -> int:
    """Return how many rows to load: floor(total_rows x percentage / 100).

    `percentage` is a Decimal, because with floats the result would be one row too low for some percentages.
    """
    return int((total_rows * percentage / 100).to_integral_value(ROUND_FLOOR))


def read_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and `.env`. A field that `overrides` names gets its value from `overrides`.

    Raises:
        BadInputError: a setting is malformed. The message names each malformed setting and its problem.
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
    """Set the environment variables that configure other libraries, except those that the user has set.

    With these variables, the libraries send no usage reports to their makers and write no progress bars into logs.

    MLflow's client gives up after seconds instead of minutes. A stage that fails because MLflow is unavailable is retried soon
    anyway. A client with long retries of its own would notice late that MLflow is available again.

    Arrow uses malloc, because Arrow's own allocator keeps twice the memory that a snapshot needs (docs/performance.md). Arrow
    reads its variable only once, when a process imports Arrow. Datasets are built in the child processes of a listener. These
    processes inherit the variable and import Arrow afterwards.
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


def configure_spark(submit_arguments: str, python: str, *, on_loopback: bool) -> None:
    """Set the environment variables from which pyspark takes what it takes from nowhere else.

    Args:
        submit_arguments: the arguments of spark-submit.
        python: path of the Python that the workers run.
        on_loopback: true if Spark's pages and ports must be reachable from this machine only.
    """
    os.environ |= {"PYSPARK_SUBMIT_ARGS": submit_arguments, "PYSPARK_PYTHON": python}
    if on_loopback:
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"


def environment_for(settings: Settings) -> dict[str, str]:
    """Return the environment variables with which a child process reads exactly these settings.

    The working directory of the child process must contain no file `.env`. Otherwise the child process would take the
    settings that are None in `settings` from that file.
    """
    environment = dict(os.environ)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if plain is None:
            environment.pop(name.upper(), None)
        else:
            environment[name.upper()] = str(plain)
    return environment
