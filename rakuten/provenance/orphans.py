"""Find the runs in MLflow whose batch PostgreSQL does not have, and let PostgreSQL be right about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from mlflow.entities.model_registry import ModelVersion
from psycopg.rows import TupleRow

from db.batches import rows
from db.sql import query
from listeners.promotion.champion_alias import AliasState, champion_history
from listeners.promotion.rollback import roll_back
from listeners.tracking import registry
from listeners.tracking.runs import Tracking, if_known
from shared.batch import utc_text
from shared.mlflow_names import CHAMPION, DATASET_EXPERIMENT, MODEL_EXPERIMENT, REGISTERED_MODEL, Tag

_REASON = "PostgreSQL does not have the batch of the champion: it was restored to an earlier time, or the batch was deleted"


@dataclass(frozen=True)
class Orphan:
    """An MLflow run whose batch PostgreSQL does not have. The batch is as the run's tags name it."""

    run_id: str
    run_name: str
    batch_id: str
    batch_completed_at: str


def find_orphans(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> list[Orphan]:
    """Return the finished runs whose batch PostgreSQL does not have, oldest first for each stage. Ignore superseded runs."""
    known = known_batches(connection)
    return [
        Orphan(run.info.run_id, str(run.info.run_name), *_batch_of(run.data.tags))
        for experiment in (DATASET_EXPERIMENT, MODEL_EXPERIMENT)
        for run in tracking.runs(experiment, Tag.BATCH_ID)
        if run.info.status == "FINISHED" and _batch_of(run.data.tags) not in known
    ]


def known_batches(connection: psycopg.Connection[TupleRow]) -> set[tuple[str, str]]:
    """Return the id and the completion time of each completed batch, as the tags of its runs in MLflow have them."""
    batches = rows(connection, query("provenance/sealed_batches"))
    return {(str(batch["id"]), utc_text(batch["completed_at"])) for batch in batches}


def orphaned_champion(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> ModelVersion | None:
    """Return the champion if it is a model of a batch that PostgreSQL does not have. Return None for every other champion."""
    holder = registry.champion(tracking)
    return holder if holder and _is_orphan(tracking, holder, known_batches(connection)) else None


def supersede_orphans(
    tracking: Tracking, connection: psycopg.Connection[TupleRow], orphans: Sequence[Orphan]
) -> list[str]:
    """Mark the runs as superseded. If the champion is a model of an unknown batch, move the alias to the last known champion.

    If no earlier champion has a known batch, delete the alias: the next model becomes champion. Return what was done.
    """
    for orphan in orphans:
        tracking.supersede(orphan.run_id)
    notes = [f"marked as superseded: {len(orphans)} runs"] if orphans else []
    holder = orphaned_champion(tracking, connection)
    if holder is None:
        return notes
    known = known_batches(connection)
    earlier = [
        number
        for number in AliasState(champion_history(tracking)).champions
        if (version := _version(tracking, number)) and not _is_orphan(tracking, version, known)
    ]
    if earlier:
        roll_back(tracking, connection, earlier[-1], reason=_REASON, by="rakuten orphans")
        return [*notes, f"version {earlier[-1]} is champion, instead of version {holder.version}"]
    tracking.client.delete_registered_model_alias(REGISTERED_MODEL, CHAMPION)
    return [*notes, f"version {holder.version} is no longer champion: the next model becomes champion"]


def _version(tracking: Tracking, number: int) -> ModelVersion | None:
    return if_known(lambda: tracking.client.get_model_version(REGISTERED_MODEL, str(number)))


def _is_orphan(tracking: Tracking, version: ModelVersion, known: set[tuple[str, str]]) -> bool:
    """Tell whether a version belongs to a batch, and PostgreSQL does not have this batch."""
    run = tracking.run_if_any(version.run_id) if version.run_id else None
    tags = version.tags if run is None else run.data.tags | version.tags
    return Tag.BATCH_ID in tags and _batch_of(tags) not in known


def _batch_of(tags: Mapping[str, str]) -> tuple[str, str]:
    return tags.get(Tag.BATCH_ID, ""), tags.get(Tag.BATCH_COMPLETED_AT, "")
