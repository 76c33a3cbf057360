"""Rollback: a person takes the alias `champion` back to an earlier model, and says why."""

import psycopg
from mlflow.entities.model_registry import ModelVersion
from psycopg.rows import TupleRow

from listeners.promotion.champion_alias import REASON_LENGTH, ChampionAlias, Move, MoveKind, champion_alias
from listeners.tracking.runs import Tracking, if_known
from shared.errors import BadInputError, PipelineError
from shared.mlflow_names import REGISTERED_MODEL

_LOOK = "rakuten champion shows who was champion when"


def roll_back(
    tracking: Tracking,
    connection: psycopg.Connection[TupleRow],
    to_version: int | None,
    *,
    reason: str,
    by: str,
) -> Move:
    """Move the alias to a version, by default to the champion before the present one.

    What comes after is compared with the new champion. What was champion after it stays out: see `ensure_promoted`.

    Args:
        tracking: MLflow.
        connection: in autocommit mode; it holds the lock.
        to_version: any that exists; None for the champion before.
        reason: at most `REASON_LENGTH` characters, and not empty.
        by: who.

    Raises:
        BadInputError: there is no such version, it is champion already, or the reason is empty or too long.
        PipelineError: there is no champion before the present one, or the last move turned out to have been interrupted.
    """
    if not (reason := reason.strip()) or len(reason) > REASON_LENGTH:
        raise BadInputError(f"a reason has 1 to {REASON_LENGTH} characters, this one has {len(reason)}")
    with champion_alias(tracking, connection) as alias:
        if alias.interrupted:
            raise PipelineError(
                f"the last move was interrupted, but came through: version {alias.history[-1].to_version} is champion",
                remedy=f"{_LOOK}; repeat this command if it should go further",
            )
        version = _version(tracking, _before(alias) if to_version is None else to_version)
        if alias.champion is not None and int(alias.champion.version) == int(version.version):
            raise BadInputError(f"version {version.version} is champion already", remedy=_LOOK)
        return alias.move(MoveKind.ROLLBACK, version, reason, by)


def _before(alias: ChampionAlias) -> int:
    champions = list(alias.state.champions)
    if len(champions) < 2:  # noqa: PLR2004  the present one and one before
        raise PipelineError(
            "there is no champion before the present one",
            remedy="name a version: rakuten rollback --to VERSION",
        )
    return champions[-2]


def _version(tracking: Tracking, number: int) -> ModelVersion:
    version = if_known(lambda: tracking.client.get_model_version(REGISTERED_MODEL, str(number)))
    if version is None:
        raise BadInputError(
            f"{REGISTERED_MODEL} has no version {number}",
            remedy=f"name one that exists with --to; {_LOOK}",
        )
    return version
