"""The alias `champion` and how it came to where it is: moved by one at a time, and every move kept.

The history lives in MLflow, where the alias does: a tag of the registered model for each move, `champion_history.0007`. Such tags
outlive every run and version, and MLflow shows them on the model's page. One tag each: a tag holds 5,000 characters, because
that is the width of the column, whatever longer value MLflow's own check lets pass.

Alias and tag are two writes. So a move is announced first and confirmed after: whoever finds an announced move that was not made
drops it, and whoever finds an alias that no move explains enters it as moved by hand.
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
# Of 5,000 characters: JSON may need six for one of them, and the rest of a move needs about 400.
REASON_LENGTH: Final = 700
_FOUND: Final = "found there: moved outside of rakuten, or before this history began"


class MoveKind(StrEnum):
    """Who moved the alias: the training stage, `rakuten rollback`, or somebody in MLflow."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"
    BY_HAND = "by hand"


class Move(BaseModel):
    """One move of the alias.

    Attributes:
        number: its place in the history, from 1.
        at: when, in UTC; for a move by hand, when it was noticed.
        kind: promotion, rollback or by hand.
        from_version: champion before; None when there was none.
        to_version: champion after; None when the alias was deleted.
        run_id: of the champion after.
        batch_completed_at: of the champion after: the moment of its batch, "" where it belongs to none.
        reason: the comparison's for a promotion, a person's for a rollback.
        by: the run that was promoted, or who rolled back.
        made: False while the move is announced only.
        before_sha256: of the move before, as it is kept; "" for the first. So none but the last can be changed, or taken out, alone.
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
    """What a history comes to.

    A move to a model withdraws the champions of later batches than its own: going back from week 9 to week 7 is a verdict on 8
    as well. Without the alias all begins anew.

    Attributes:
        champions: the versions that were champion and not withdrawn since, the present one last, each with its batch's time.
        withdrawn: the versions that were withdrawn, the same.
    """

    def __init__(self, history: Sequence[Move]) -> None:
        self.champions: dict[int, str] = {}
        self.withdrawn: dict[int, str] = {}
        for move in history:
            self._enter(move)

    def _enter(self, move: Move) -> None:
        if move.to_version is None:
            self.champions, self.withdrawn = {}, {}
            return
        for version, moment in list(self.champions.items()):
            if moment > move.batch_completed_at:
                self.withdrawn[version] = self.champions.pop(version)
        self.withdrawn.pop(move.to_version, None)
        self.champions.pop(move.to_version, None)  # to the end
        self.champions[move.to_version] = move.batch_completed_at


class ChampionAlias:
    """The alias and its history, for whoever holds the lock."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        self.champion = registry.champion(tracking)
        self.history, announced = _read(tracking)
        self.interrupted = announced is not None and announced.to_version == self._champion_version
        if announced is not None:
            self._settle(announced)
        if self._champion_version != (self.history[-1].to_version if self.history else None):
            self._enter(MoveKind.BY_HAND, self.champion, _FOUND, "unknown")

    @property
    def state(self) -> AliasState:
        return AliasState(self.history)

    def move(self, kind: MoveKind, version: ModelVersion, reason: str, by: str) -> Move:
        """Move the alias to `version`, and keep the move. `reason` has at most `REASON_LENGTH` characters, or is cut."""
        announced = self._enter(kind, version, reason, by, made=False)
        self._tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, str(version.version))
        self.champion = version
        return self._confirm(announced)

    @property
    def _champion_version(self) -> int | None:
        return None if self.champion is None else int(self.champion.version)

    def _settle(self, announced: Move) -> None:
        """Of a move that was interrupted: enter it if the alias has moved, drop it if it has not."""
        if self.interrupted:
            self.history.append(announced)
            self._confirm(announced)
        else:
            self._tracking.client.delete_registered_model_tag(REGISTERED_MODEL, _tag(announced))

    def _enter(
        self, kind: MoveKind, version: ModelVersion | None, reason: str, by: str, *, made: bool = True
    ) -> Move:
        move = Move(
            number=self.history[-1].number + 1 if self.history else 1,
            at=datetime.now(UTC),
            kind=kind,
            from_version=self.history[-1].to_version if self.history else None,
            to_version=None if version is None else int(version.version),
            run_id=None if version is None else version.run_id,
            batch_completed_at="" if version is None else version.tags.get(Tag.BATCH_COMPLETED_AT, ""),
            reason=reason[:REASON_LENGTH],
            by=by,
            made=made,
            before_sha256=self.history[-1].sha256() if self.history else "",
        )
        self.history.append(move)
        self._write(move)
        return move

    def _confirm(self, announced: Move) -> Move:
        made = announced.model_copy(update={"made": True})
        self.history[-1] = made
        self._write(made)
        return made

    def _write(self, move: Move) -> None:
        self._tracking.client.set_registered_model_tag(REGISTERED_MODEL, _tag(move), move.model_dump_json())


@contextmanager
def champion_alias(tracking: Tracking, connection: psycopg.Connection[TupleRow]) -> Iterator[ChampionAlias]:
    """The alias and its history, alone with them: under a lock of the database, whoever else wants to move it waits.

    Args:
        tracking: MLflow.
        connection: in autocommit mode, of any role.
    """
    with advisory_lock(connection, Lock.CHAMPION):
        yield ChampionAlias(tracking)


def champion_history(tracking: Tracking) -> list[Move]:
    """Every move of the alias that was made, oldest first.

    Raises:
        StageError: somebody has changed an entry.
    """
    history, _announced = _read(tracking)
    return history


def _tag(move: Move) -> str:
    return f"{_TAG}{move.number:04}"


def _read(tracking: Tracking) -> tuple[list[Move], Move | None]:
    """The moves that were made, oldest first, and the one that is announced."""
    model = if_known(lambda: tracking.client.get_registered_model(REGISTERED_MODEL))
    tags = {} if model is None else model.tags
    moves = sorted(
        (_parse(name, value) for name, value in tags.items() if name.startswith(_TAG)),
        key=lambda move: move.number,
    )
    announced = moves.pop() if moves and not moves[-1].made else None
    return moves, announced


def _parse(name: str, value: str) -> Move:
    try:
        return Move.model_validate_json(value)
    except ValidationError as error:
        raise StageError(
            f"the tag {name} of {REGISTERED_MODEL} is not what rakuten wrote: {error.errors()[0]['msg']}",
            remedy="put it right in MLflow, or delete it; without it that move of the champion is forgotten",
        ) from error
