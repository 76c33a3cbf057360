"""Define the history of the alias `champion`: every move of the alias, and which models are champions after these moves.

The history is stored in MLflow. Each move is a tag of the registered model, for example `champion_history.0007.5ea1c0de`. The
tags stay when runs or versions are deleted, and MLflow shows the tags on the model's page. One tag cannot hold the whole history,
because the column for tags in MLflow's database holds only 5,000 characters. (MLflow's own check accepts longer values.)
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from listeners.tracking.runs import Tracking, if_known
from shared.errors import StageError

_TAG: Final = "champion_history."
# Maximum length of `Move.reason`. A move is stored as JSON in an MLflow tag, which holds 5,000 characters. JSON may need six
# characters for one character (such as \u0001), so the reason needs up to 4,200. The other fields of a move need about 400.
REASON_LENGTH: Final = 700


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
        batch_seal: seal of the batch of `to_version`; "" if this model belongs to no batch. PostgreSQL knows the number of the
            batch with this seal in the hash chain.
        verdict: for a promotion, the name of the run's artifact with the result of the comparison; otherwise "".
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
    batch_seal: str
    verdict: str
    reason: str
    by: str
    made: bool
    before_sha256: str

    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class AliasState:
    """The champions and the withdrawn champions after a series of moves of the alias `champion`.

    Batches are ordered by their numbers in the hash chain, which PostgreSQL knows. PostgreSQL may not know a batch, for example
    after the restore of an older dump. A model of such a batch withdraws no champion, and later counts as earlier than all others.

    When the alias moves to a model, every champion whose batch is later than the batch of this model is withdrawn. For example,
    a rollback from week 9 to week 7 withdraws the champions of weeks 8 and 9. When the alias is deleted, `champions` and
    `withdrawn` become empty.

    Attributes:
        champions: the versions that are or were champion and are not withdrawn, each with its batch's number; the present
            champion is last.
        withdrawn: the withdrawn versions, each with its batch's number.
    """

    def __init__(self, history: Sequence[Move], numbers: Mapping[str, int]) -> None:
        self.champions: dict[int, int] = {}
        self.withdrawn: dict[int, int] = {}
        for move in history:
            self._apply(move, numbers.get(move.batch_seal))

    def _apply(self, move: Move, number: int | None) -> None:
        if move.to_version is None:
            self.champions, self.withdrawn = {}, {}
            return
        for version, other in list(self.champions.items()):
            if number is not None and other > number:
                self.withdrawn[version] = self.champions.pop(version)
        self.withdrawn.pop(move.to_version, None)
        # A dict keeps the position of an existing key. So remove the version first: then the assignment puts it at the end.
        self.champions.pop(move.to_version, None)
        self.champions[move.to_version] = number or 0


def champion_history(tracking: Tracking) -> list[Move]:
    """Return every completed move of the alias `champion`, oldest first.

    A pending move is left out: its tag is written, but the alias may not have moved yet.

    Raises:
        StageError: somebody has changed a move's tag in MLflow, and the tag can no longer be parsed.
    """
    history, _pending = read_history(tracking)
    return history


def tag_of(move: Move) -> str:
    """Return the name of a move's tag. It has a digest, so that two moves with the same number have two tags."""
    pending = move.model_copy(update={"made": False})
    return f"{_TAG}{move.number:04}.{pending.sha256()[:8]}"


def read_history(tracking: Tracking) -> tuple[list[Move], list[Move]]:
    """Return the completed moves, oldest first, and the pending moves. There is at most one, unless a process lost its lock."""
    model = if_known(lambda: tracking.client.get_registered_model(tracking.registered_model))
    tags = {} if model is None else model.tags
    moves = sorted(
        (
            _parse(tracking.registered_model, name, value)
            for name, value in tags.items()
            if name.startswith(_TAG)
        ),
        key=lambda move: move.number,
    )
    return [move for move in moves if move.made], [move for move in moves if not move.made]


def _parse(model: str, name: str, value: str) -> Move:
    try:
        return Move.model_validate_json(value)
    except ValidationError as error:
        raise StageError(
            f"somebody has changed the tag {name} of {model} in MLflow: {error.errors()[0]['msg']}",
            remedy="correct the tag; if you delete it instead, the champion's history loses this entry",
        ) from error
