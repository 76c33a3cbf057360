"""A batch, in the one shape that every part of the pipeline passes on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.mlflow_names import Tag


@dataclass(frozen=True)
class Batch:
    """A batch as the view `batches` has it.

    Attributes:
        id: of the batch.
        name: week_7, correction_1.
        status: running, completed or failed.
        started_at: when this attempt at loading it was claimed; it does not change once the batch is complete.
        completed_at: None until then.
        total_rows: what `products` holds; 0 until the batch is complete.
        week: the last week whose rows the batch holds; for a correction the week before it. None until it is complete.
        seal: the digest of its history (db/sql/schema/040_hash_chain.sql), once it is complete.
        source: what the first load recorded: `files` (SHA-256 by name), total_rows, random_seed, holdout_percentage.
        metadata: what each step recorded.
    """

    id: int
    name: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    total_rows: int
    week: int | None
    seal: str | None
    source: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def mlflow_tags(self) -> dict[str, str]:
        """The tags that only this batch's runs carry.

        The id alone would not do: ids begin at 1 again in a database that was made anew beside an MLflow that was kept.
        """
        completed_at = "" if self.completed_at is None else utc_text(self.completed_at)
        return {Tag.BATCH_ID: str(self.id), Tag.BATCH_COMPLETED_AT: completed_at}

    @property
    def source_tags(self) -> dict[str, str]:
        """The tag of everything that depends on the source files alone: the fixed sets."""
        canonical = json.dumps(self.source, sort_keys=True).encode()
        return {Tag.SOURCE_SHA256: hashlib.sha256(canonical).hexdigest()}

    def result_of(self, stage: str) -> dict[str, Any]:
        """What a stage has recorded for this batch; empty until the stage has finished."""
        result: dict[str, Any] = self.metadata.get(stage, {}).get("result", {})
        return result


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds: tags hold moments in this form, and it sorts as they do."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
