"""Parse each PostgreSQL notification once, when it is received, into a frozen and typed event.

Any role can NOTIFY any channel. So a payload is only a hint, never an order. The receiver reads the tables to learn what to do.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# The positive values of PostgreSQL's type bigint. Every id and count in a notification is in this range.
PositiveBigint = Annotated[int, Field(ge=1, lt=2**63)]
# MLflow's run ids have only these characters. `rakuten events` prints run ids, so they must not contain control characters.
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class Stage(StrEnum):
    """The two steps that listeners do for each completed batch, in this order."""

    SNAPSHOT = "snapshot"
    TRAINING = "training"


class Channel(StrEnum):
    """The PostgreSQL channels on which the pipeline sends notifications."""

    PRODUCTS_AUDITED = "products_audited"
    BATCH_COMPLETED = "batch_completed"
    DATASET_READY = "dataset_ready"
    MODEL_TRAINED = "model_trained"
    CHAMPION_MOVED = "champion_moved"
    STAGE_FAILED = "stage_failed"


class Event(BaseModel):
    """The base class of all events. Every payload has the field `v`, the version of the payload's format."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Annotated[int, Field(ge=1, le=1)]  # not Literal[1], which would also accept 1.0 and true


class ProductsAudited(Event):
    """One SQL statement changed rows of a table. `batch_id` is None if the change does not belong to a batch."""

    batch_id: PositiveBigint | None
    table: Literal["products", "labels"]
    operation: Literal["INSERT", "UPDATE", "DELETE"]
    rows: PositiveBigint


class BatchCompleted(Event):
    """A batch is loaded and validated, so the snapshot listener can build its dataset."""

    batch_id: PositiveBigint


class DatasetReady(Event):
    """A batch's dataset is in MLflow, so the training listener can train a model on it."""

    batch_id: PositiveBigint
    run_id: RunId


class ModelTrained(Event):
    """A model was trained on a batch's dataset, and the model is in MLflow."""

    batch_id: PositiveBigint
    run_id: RunId


class ChampionMoved(Event):
    """The alias `champion` was moved to another version of the registered model. `version` is None if it was deleted."""

    version: PositiveBigint | None


class StageFailed(Event):
    """A stage gave up a batch after too many failures. `rakuten retry` makes the stage try the batch again."""

    batch_id: PositiveBigint
    stage: Stage
    attempt: PositiveBigint


EVENT_OF: dict[Channel, type[Event]] = {
    Channel.PRODUCTS_AUDITED: ProductsAudited,
    Channel.BATCH_COMPLETED: BatchCompleted,
    Channel.DATASET_READY: DatasetReady,
    Channel.MODEL_TRAINED: ModelTrained,
    Channel.CHAMPION_MOVED: ChampionMoved,
    Channel.STAGE_FAILED: StageFailed,
}


class InvalidPayloadError(ValueError):
    """The channel or the payload of a notification is invalid, so the notification does not come from the pipeline."""


def parse(channel: str, payload: str) -> Event:
    """Return the event that a notification contains.

    Raises:
        InvalidPayloadError: the channel is unknown, or the payload is not JSON with exactly the fields of this channel's event.
    """
    try:
        return EVENT_OF[Channel(channel)].model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "payload"
        raise InvalidPayloadError(f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise InvalidPayloadError(f"unknown channel {channel!r}") from error
