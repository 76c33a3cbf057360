"""Parse notifications into frozen, typed events, once, where they enter the program.

Any role can NOTIFY any channel. So a payload is only a hint, never an order, and its receiver reads the tables again.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# The positive values of PostgreSQL's bigint. Every id and count of the pipeline is one of them.
PositiveBigint = Annotated[int, Field(ge=1, lt=2**63)]
# MLflow's run ids have only these characters. `rakuten events` prints the id, so it must not contain control characters.
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class Stage(StrEnum):
    """The two steps that listeners do for each completed batch, in this order."""

    SNAPSHOT = "snapshot"
    TRAINING = "training"


class Channel(StrEnum):
    """The NOTIFY channels."""

    PRODUCTS_AUDITED = "products_audited"
    BATCH_COMPLETED = "batch_completed"
    DATASET_READY = "dataset_ready"
    MODEL_TRAINED = "model_trained"
    STAGE_FAILED = "stage_failed"


class Event(BaseModel):
    """The fields that every payload has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Annotated[int, Field(ge=1, le=1)]  # Literal[1] would also accept 1.0 and true


class ProductsAudited(Event):
    """One statement changed rows. `batch_id` is None if the change does not belong to a batch."""

    batch_id: PositiveBigint | None
    table: Literal["products", "labels"]
    operation: Literal["INSERT", "UPDATE", "DELETE"]
    rows: PositiveBigint


class BatchCompleted(Event):
    """A batch is loaded and validated."""

    batch_id: PositiveBigint


class DatasetReady(Event):
    """A batch's dataset is in MLflow."""

    batch_id: PositiveBigint
    run_id: RunId


class ModelTrained(Event):
    """A batch's model is in MLflow."""

    batch_id: PositiveBigint
    run_id: RunId


class StageFailed(Event):
    """A stage gave up a batch. `rakuten retry` makes the stage try it again."""

    batch_id: PositiveBigint
    stage: Stage
    attempt: PositiveBigint


_EVENT_OF: dict[Channel, type[Event]] = {
    Channel.PRODUCTS_AUDITED: ProductsAudited,
    Channel.BATCH_COMPLETED: BatchCompleted,
    Channel.DATASET_READY: DatasetReady,
    Channel.MODEL_TRAINED: ModelTrained,
    Channel.STAGE_FAILED: StageFailed,
}


class InvalidPayloadError(ValueError):
    """A notification that no part of the pipeline would send."""


def parse(channel: str, payload: str) -> Event:
    """Return the event that a notification contains.

    Raises:
        InvalidPayloadError: the channel is unknown, or the payload is not strict JSON with the channel's fields and version.
    """
    try:
        return _EVENT_OF[Channel(channel)].model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "payload"
        raise InvalidPayloadError(f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise InvalidPayloadError(f"unknown channel {channel!r}") from error
