"""Check in MLflow's model registry that nobody changed the alias `champion` or its history."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from mlflow.entities.model_registry import ModelVersion
from pydantic import ValidationError

from listeners.promotion.champion_history import Move, champion_history
from listeners.tracking import registry
from listeners.tracking.runs import Tracking, if_known
from rakuten.provenance.checks import Cause, Check, differs
from shared.errors import StageError
from shared.mlflow_names import CHAMPION, Tag

SETTLE_ORPHANS: Final = (
    "rakuten orphans says which runs; after a restore of PostgreSQL, run: rakuten orphans --supersede"
)


def verify_champions(
    tracking: Tracking,
    stages: Sequence[Mapping[str, Any]],
    seals: Collection[str],
    copies: Sequence[Mapping[str, Any]],
) -> Iterator[Check]:
    """Check the alias `champion`, and the history of its moves from one model version to another.

    Each move must hold the digest of the move before it. Each promotion that PostgreSQL has recorded must be in the history.
    The alias must be where the last move left it, on a model that PostgreSQL has recorded.

    Args:
        tracking: MLflow, which is only read.
        stages: what each stage has recorded for each batch (provenance/recorded_results).
        seals: the seal of each completed batch.
        copies: the moves that PostgreSQL has recorded, in order (provenance/recorded_moves).
    """
    subject = f"champions of {tracking.registered_model}"
    try:
        moves = champion_history(tracking)
    except StageError as error:
        yield Check("", subject, error.message, remedy=error.remedy or "")
        return
    before = ""
    for move in moves:
        yield Check(
            "", f"{subject}, move {move.number}", differs("the move before", move.before_sha256, before)
        )
        before = move.sha256()
    versions = {move.to_version for move in moves}
    for recorded in stages:
        result = recorded["result"]
        if result.get("champion"):
            missing = result["model_version"] not in versions
            problem = f"the promotion of version {result['model_version']} is missing" if missing else None
            yield Check(recorded["batch_name"], subject, problem)
    yield _verify_copies(subject, moves, copies)
    yield _verify_alias(tracking, moves, stages, seals)


def _verify_copies(subject: str, moves: Sequence[Move], copies: Sequence[Mapping[str, Any]]) -> Check:
    """Check that PostgreSQL's copy of each move says the same as MLflow's record, and that the last move is the same."""
    subject += ", copy in PostgreSQL"
    recorded = {move.sha256(): dict(move) for move in moves}
    for copy in copies:
        original = recorded.get(copy["move_sha256"])
        if original is not None and any(
            original[name] != copy[name] for name in copy if name != "move_sha256"
        ):
            return Check("", subject, f"move {original['number']} differs from MLflow's record")
    last = copies[-1]["move_sha256"] if copies else None
    if last == (moves[-1].sha256() if moves else None):
        return Check("", subject)
    problem = "the last move is not the last one in MLflow"
    return Check(
        "", subject, problem, Cause.UNKNOWN, "restart the training listener: it copies what is missing"
    )


def _verify_alias(
    tracking: Tracking,
    moves: Sequence[Move],
    stages: Sequence[Mapping[str, Any]],
    seals: Collection[str],
) -> Check:
    alias = f"alias {CHAMPION} of {tracking.registered_model}"
    holder = registry.champion(tracking)
    version = None if holder is None else int(holder.version)
    last = moves[-1].to_version if moves else None
    if version != last and not _is_interrupted_move(tracking, version):
        back = f"to move it back: rakuten rollback --to {last} --reason TEXT; " if last else ""
        problem = f"it is on version {version}, but the last recorded move was to version {last}"
        return Check("", alias, problem, remedy=f"{back}rakuten champion shows the moves")
    if holder is None or version in {recorded["result"].get("model_version") for recorded in stages}:
        return Check("", alias)
    return _verify_unrecorded_champion(tracking, holder, seals)


def _verify_unrecorded_champion(tracking: Tracking, holder: ModelVersion, seals: Collection[str]) -> Check:
    """Say what a champion is that is not the recorded model of any batch.

    Its batch may have another model now, because its run was lost and the training was repeated.
    """
    run = tracking.run_if_any(holder.run_id) if holder.run_id else None
    tags = holder.tags if run is None else run.data.tags
    alias = f"alias {CHAMPION} of {tracking.registered_model}"
    problem = f"version {holder.version} is not a model that PostgreSQL has recorded"
    if tags.get(Tag.BATCH_SEAL) in seals:
        problem += ": the model of its batch was trained again"
        return Check("", alias, problem, Cause.UNKNOWN, "rakuten reproduce compares the models")
    if Tag.BATCH_SEAL in tags:
        return Check("", alias, f"{problem}: its batch is unknown", Cause.ORPHANED, SETTLE_ORPHANS)
    return Check("", alias, problem, remedy="rakuten rollback --to VERSION --reason TEXT")


def _is_interrupted_move(tracking: Tracking, version: int | None) -> bool:
    """Tell whether a move of the alias to this version was not marked as made, because its process was stopped."""
    model = if_known(lambda: tracking.client.get_registered_model(tracking.registered_model))
    for value in [] if model is None else model.tags.values():
        with suppress(ValidationError):
            move = Move.model_validate_json(value)
            if not move.made and move.to_version == version:
                return True
    return False
