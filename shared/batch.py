"""Define the class `Batch`, with which every part of the pipeline represents a batch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.mlflow_names import Tag


@dataclass(frozen=True)
class Batch:
    """A batch, with the columns of the view `batches`.

    Attributes:
        id: the number of the batch.
        name: the name of the batch, for example week_7 or correction_1.
        status: running, completed or failed.
        started_at: when the current attempt to load the batch began. It does not change after the batch is complete.
        completed_at: when the batch was completed, or None until then.
        total_rows: the number of rows in `products` after the batch, or 0 until the batch is complete.
        week: the newest week whose rows are in `products` when the batch is complete: 7 for week_7 and for a correction after
            it. None until the batch is complete.
        chain_number: the batch's number in the hash chain: 1 for the batch that was completed first. None until the batch is
            complete. Batches are ordered by this number: neither ids nor clocks give the order in which they were completed.
        seal: a digest of the batch's changes and of the previous batch's seal. None until the batch is complete. The seal is
            defined in db/sql/schema/040_hash_chain.sql.
        source: what the load of the first week recorded about the source files: `files` (SHA-256 by name), total_rows,
            random_seed, holdout_percentage.
        metadata: what each step has recorded for the batch, by step, for example under `load` or `snapshot`.
    """

    id: int
    name: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    total_rows: int
    week: int | None
    chain_number: int | None
    seal: str | None
    source: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def mlflow_tags(self) -> dict[str, str]:
        """The MLflow tags that only the runs of this batch have.

        The seal identifies the batch. The id and the number are not enough: if the database is created again and MLflow is
        kept, both begin at 1 again.
        """
        values = {Tag.BATCH_ID: self.id, Tag.BATCH_NUMBER: self.chain_number, Tag.BATCH_SEAL: self.seal}
        return {name: str(value) for name, value in values.items()}

    @property
    def source_tags(self) -> dict[str, str]:
        """The MLflow tag of the holdout and test datasets: the digest of `source`.

        The rows of these datasets depend only on `source`.
        """
        canonical = json.dumps(self.source, sort_keys=True).encode()
        return {Tag.SOURCE_SHA256: hashlib.sha256(canonical).hexdigest()}

    def result_of(self, stage: str) -> dict[str, Any]:
        """Return the result that a stage recorded for this batch, or an empty dict until the stage has finished."""
        result: dict[str, Any] = self.metadata.get(stage, {}).get("result", {})
        return result
