"""Move the alias `champion`, one process at a time, and keep a history of every move.

The history is stored in MLflow. Each move is a tag of the registered model, for example `champion_history.0007`. The tags
stay when runs or versions are deleted, and MLflow shows the tags on the model's page. One tag cannot hold the whole history,
because the column for tags in MLflow's database holds only 5,000 characters. (MLflow's own check accepts longer values.)

MLflow cannot write the alias and a tag together. So a process moves the alias in three steps: write a tag with the pending
move, move the alias, and mark the move as made. If the process stops before the last step, the next process finds the
pending move. If the alias has moved, the next process marks the move as made. If not, it deletes the move.

If the alias is on another version than the last move says, somebody has moved the alias by hand. The next process records
this move.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import psycopg
from mlflow.entities.model_registry import ModelVersion
from psycopg.rows import TupleRow
from pydantic import BaseModel, ConfigDict, ValidationError

from db.locks import Lock, advisory_lock
from listeners.tracking import registry
from listeners.tracking.runs import Tracking, if_known
from shared.errors import StageError
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL, Tag

_TAG: Final = "champion_history."
# Maximum length of `Move.reason`. A move is stored as JSON in an MLflow tag, which holds 5,000 characters. JSON may need six
# characters for one character (such as \u0001), so the reason needs up to 4,200. The other fields of a move need about 400.
REASON_LENGTH: Final = 700
_UNRECORDED: Final = "moved outside of rakuten, or before this history began"


class MoveKind(StrEnum):
    """What moved the alias `champion`: the training stage (promotion), `rakuten rollback`, or a person in MLflow (by hand)."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"
    BY_HAND = "by hand"


class Move(BaseModel):
    """One move of the alias `champion` from one model version to another.

    Attributes:
        number: position of the move in the history, from 1.
        at: time of the move, in UTC; for a move by hand, the time at which rakuten noticed it.
        kind: promotion, rollback or by hand.
        from_version: the champion before the move; None if there was no champion.
        to_version: the champion after the move; None if the alias was deleted.
        run_id: id of the MLflow run that trained the model `to_version`; None if no such run is known.
        batch_completed_at: time at which the batch of `to_version` was completed; "" if this model belongs to no batch.
        reason: for a promotion, the result of the comparison; for a rollback, the reason that the user gave; for a move by
            hand, a fixed text.
        by: for a promotion, the name of the promoted run; for a rollback, the person; for a move by hand, "unknown".
        made: False while the move is pending: MLflow stores this record, but the alias may not have moved yet.
        before_sha256: SHA-256 of the record of the previous move; "" for the first move. The records form a hash chain: if one
            is changed or deleted, the hash in the next record no longer matches. The last record has no such protection,
            because no record follows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    at: datetime
    kind: MoveKind
    from_version: int | None
    to_version: int | None
    run_id: str | None
    batch_completed_at: str
    reason: str
    by: str
    made: bool
    before_sha256: str

    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class AliasState:
    """The champions and the withdrawn champions after a series of moves of the alias `champion`.

    When the alias moves to a model, every champion whose batch is later than the batch of this model is withdrawn. For example,
    a rollback from week 9 to week 7 withdraws the champions of weeks 8 and 9. When the alias is deleted, `champions` and
    `withdrawn` become empty.

    Attributes:
        champions: the versions that are or were champion and are not withdrawn, each with its batch's completion time; the
            present champion is last.
        withdrawn: the withdrawn versions, each with its batch's completion time.
    """

    def __init__(self, history: Sequence[Move]) -> None:
        self.champions: dict[int, str] = {}
        self.withdrawn: dict[int, str] = {}
        for move in history:
            self._apply(move)

    def _apply(self, move: Move) -> None:
        if move.to_version is None:
            self.champions, self.withdrawn = {}, {}
            return
        for version, moment in list(self.champions.items()):
            if moment > move.batch_completed_at:
                self.withdrawn[version] = self.champions.pop(version)
        self.withdrawn.pop(move.to_version, None)
        # A dict keeps the position of an existing key. So remove the version first: then the assignment puts it at the end.
        self.champions.pop(move.to_version, None)
        self.champions[move.to_version] = move.batch_completed_at


class ChampionAlias:
    """The alias `champion` and its history, for the one process that holds the lock on the alias.

    Attributes:
        champion: the model version that has the alias, or None if the alias does not exist.
        history: every move of the alias, oldest first.
        interrupted: True if another process moved the alias and stopped before it marked the move as made.
    """

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        self.champion = registry.champion(tracking)
        self.history, pending = _read_history(tracking)
        self.interrupted = pending is not None and pending.to_version == self._champion_version
        if pending is not None:
            self._resolve(pending)
        if self._champion_version != (self.history[-1].to_version if self.history else None):
            self._record(MoveKind.BY_HAND, self.champion, _UNRECORDED, "unknown")

    @property
    def state(self) -> AliasState:
        return AliasState(self.history)

    def move(self, kind: MoveKind, version: ModelVersion, reason: str, by: str) -> Move:
        """Move the alias to `version` and record the move. A `reason` longer than `REASON_LENGTH` characters is cut."""
        pending = self._record(kind, version, reason, by, made=False)
        self._tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, str(version.version))
        self.champion = version
        return self._confirm(pending)

    @property
    def _champion_version(self) -> int | None:
        return None if self.champion is None else int(self.champion.version)

    def _resolve(self, pending: Move) -> None:
        """Mark the pending move as made if the alias points to the move's `to_version`. Otherwise delete the pending move."""
        if self.interrupted:
            self.history.append(pending)
            self._confirm(pending)
        else:
            self._tracking.client.delete_registered_model_tag(REGISTERED_MODEL, _tag(pending))

    def _record(
        self, kind: MoveKind, version: ModelVersion | None, reason: str, by: str, *, made: bool = True
    ) -> Move:
        move = Move(
            number=self.history[-1].number + 1 if self.history else 1,
            at=datetime.now(UTC),
            kind=kind,
            from_version=self.history[-1].to_version if self.history else None,
            to_version=None if version is None else int(version.version),
            run_id=None if version is None else version.run_id,
            batch_completed_at="" if version is None else self._batch_completed_at(version),
            reason=reason[:REASON_LENGTH],
            by=by,
            made=made,
            before_sha256=self.history[-1].sha256() if self.history else "",
        )
        self.history.append(move)
        self._write(move)
        return move

    def _batch_completed_at(self, version: ModelVersion) -> str:
        """Return when the batch of `version` was completed, or "" if no tag of the version or of its run holds this time.

        If somebody registered a version by hand, only its run has tags.
        """
        run = self._tracking.run_if_any(version.run_id) if version.run_id else None
        tags = version.tags if run is None else run.data.tags | version.tags
        return str(tags.get(Tag.BATCH_COMPLETED_AT, ""))

    def _confirm(self, pending: Move) -> Move:
        made = pending.model_copy(update={"made": True})
        self.history[-1] = made
        self._write(made)
        return made

    def _write(self, move: Move) -> None:
        self._tracking.client.set_registered_model_tag(REGISTERED_MODEL, _tag(move), move.model_dump_json())


@contextmanager
def champion_alias(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> Iterator[ChampionAlias]:
    """Lock the alias `champion` and yield it with its history. Other processes that want to move it wait for the lock.

    Args:
        tracking: access to MLflow.
        connection: a connection to PostgreSQL in autocommit mode, with any role; the lock is an advisory lock of its session.
    """
    with advisory_lock(connection, Lock.CHAMPION):
        yield ChampionAlias(tracking)


def champion_history(tracking: Tracking) -> list[Move]:
    """Return every completed move of the alias `champion`, oldest first.

    A pending move is left out: its tag is written, but the alias may not have moved yet.

    Raises:
        StageError: somebody has changed a move's tag in MLflow, and the tag can no longer be parsed.
    """
    history, _pending = _read_history(tracking)
    return history


def _tag(move: Move) -> str:
    return f"{_TAG}{move.number:04}"


def _read_history(tracking: Tracking) -> tuple[list[Move], Move | None]:
    """Return the completed moves, oldest first, and the pending move (None if no move is pending)."""
    model = if_known(lambda: tracking.client.get_registered_model(REGISTERED_MODEL))
    tags = {} if model is None else model.tags
    moves = sorted(
        (_parse(name, value) for name, value in tags.items() if name.startswith(_TAG)),
        key=lambda move: move.number,
    )
    pending = moves.pop() if moves and not moves[-1].made else None
    return moves, pending


def _parse(name: str, value: str) -> Move:
    try:
        return Move.model_validate_json(value)
    except ValidationError as error:
        raise StageError(
            f"somebody has changed the tag {name} of {REGISTERED_MODEL} in MLflow: {error.errors()[0]['msg']}",
            remedy="correct the tag; if you delete it instead, the champion's history loses this entry",
        ) from error
