"""Find the runs in MLflow whose batch PostgreSQL does not have, and let PostgreSQL be right about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from mlflow.entities.model_registry import ModelVersion
from psycopg.rows import TupleRow

from db.sql import query
from listeners.promotion.champion_history import AliasState, champion_history
from listeners.promotion.rollback import roll_back
from listeners.tracking import registry
from listeners.tracking.runs import Tracking, if_known
from shared.mlflow_names import CHAMPION, DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag

_REASON = "PostgreSQL does not have the batch of the champion: it was restored to an earlier time, or the batch was deleted"


@dataclass(frozen=True)
class Orphan:
    """An MLflow run whose batch PostgreSQL does not have."""

    run_id: str
    run_name: str
    batch_id: str


def find_orphans(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> list[Orphan]:
    """Return the finished runs whose batch PostgreSQL does not have, oldest first for each stage. Ignore superseded runs."""
    known = chain_numbers(connection)
    return [
        Orphan(run.info.run_id, str(run.info.run_name), run.data.tags.get(Tag.BATCH_ID, ""))
        for experiment in (DATASET_EXPERIMENT, MODEL_EXPERIMENT)
        for run in tracking.runs(experiment, Tag.BATCH_SEAL)
        if run.info.status == "FINISHED" and run.data.tags[Tag.BATCH_SEAL] not in known
    ]


def chain_numbers(connection: psycopg.Connection[TupleRow]) -> dict[str, int]:
    """Return the number in the hash chain of each completed batch, by the batch's seal."""
    return dict(connection.execute(query("batches/sealed_batches")).fetchall())


def orphaned_champion(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> ModelVersion | None:
    """Return the champion if it is a model of a batch that PostgreSQL does not have. Return None for every other champion."""
    holder = registry.champion(tracking)
    return holder if holder and _is_orphan(tracking, holder, chain_numbers(connection)) else None


def supersede_orphans(
    tracking: Tracking, connection: psycopg.Connection[TupleRow], conninfo: str, orphans: Sequence[Orphan]
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
    known = chain_numbers(connection)
    earlier = [
        number
        for number in AliasState(champion_history(tracking), known).champions
        if (version := _version(tracking, number)) and not _is_orphan(tracking, version, known)
    ]
    if earlier:
        roll_back(tracking, conninfo, earlier[-1], reason=_REASON, by="rakuten orphans")
        return [*notes, f"version {earlier[-1]} is champion, instead of version {holder.version}"]
    tracking.client.delete_registered_model_alias(tracking.registered_model, CHAMPION)
    return [*notes, f"version {holder.version} is no longer champion: the next model becomes champion"]


def _version(tracking: Tracking, number: int) -> ModelVersion | None:
    return if_known(lambda: tracking.client.get_model_version(tracking.registered_model, str(number)))


def _is_orphan(tracking: Tracking, version: ModelVersion, known: Mapping[str, int]) -> bool:
    """Tell whether a version belongs to a batch, and PostgreSQL does not have this batch."""
    run = tracking.run_if_any(version.run_id) if version.run_id else None
    tags = version.tags if run is None else run.data.tags | version.tags
    return Tag.BATCH_SEAL in tags and tags[Tag.BATCH_SEAL] not in known
