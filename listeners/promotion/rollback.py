"""Roll back the champion: a person moves the MLflow alias `champion` to another, usually earlier, model and gives a reason."""

from mlflow.entities.model_registry import ModelVersion

from listeners.promotion.champion_alias import ChampionAlias, champion_alias
from listeners.promotion.champion_history import REASON_LENGTH, Move, MoveKind
from listeners.tracking.runs import Tracking, if_known
from shared.errors import BadInputError, PipelineError

_SHOW_HISTORY = "`rakuten champion` shows all champions and when they were promoted"


def roll_back(
    tracking: Tracking,
    conninfo: str,
    to_version: int | None,
    *,
    reason: str,
    by: str,
) -> Move:
    """Move the alias `champion` to a model version, by default to the previous champion.

    Models that are trained afterwards are compared with this version. Every champion whose batch is later than the batch of
    this version is withdrawn, and `ensure_promoted` does not promote it again.

    Args:
        tracking: access to MLflow.
        conninfo: connection string of PostgreSQL, which locks the alias while the alias moves.
        to_version: a model version that exists; None for the previous champion.
        reason: reason for the rollback, 1 to `REASON_LENGTH` characters.
        by: the person who rolls back.

    Raises:
        BadInputError: the version does not exist or is champion already, or `reason` is empty or too long.
        PipelineError: there is no previous champion, or an earlier move was interrupted, and this call only completed it.
    """
    if not (reason := reason.strip()) or len(reason) > REASON_LENGTH:
        raise BadInputError(f"the reason must have 1 to {REASON_LENGTH} characters, it has {len(reason)}")
    with champion_alias(tracking, conninfo) as alias:
        if alias.interrupted:
            raise PipelineError(
                f"nothing was rolled back: this command only completed an earlier alias move that was interrupted; "
                f"the champion is version {alias.history[-1].to_version}",
                remedy=f"{_SHOW_HISTORY}; to roll back from this version, repeat the command",
            )
        version = _version(tracking, _previous_champion(alias) if to_version is None else to_version)
        if alias.champion is not None and int(alias.champion.version) == int(version.version):
            raise BadInputError(f"version {version.version} is champion already", remedy=_SHOW_HISTORY)
        return alias.move(MoveKind.ROLLBACK, version, reason, by)


def _previous_champion(alias: ChampionAlias) -> int:
    champions = list(alias.state.champions)
    if len(champions) < 2:  # noqa: PLR2004  the present one and one before
        raise PipelineError(
            "there is no champion before the present one, so a rollback needs a version",
            remedy="name the version to roll back to: `rakuten rollback --to VERSION`",
        )
    return champions[-2]


def _version(tracking: Tracking, number: int) -> ModelVersion:
    version = if_known(lambda: tracking.client.get_model_version(tracking.registered_model, str(number)))
    if version is None:
        raise BadInputError(
            f"the model {tracking.registered_model} has no version {number}",
            remedy=f"pass an existing version to --to; {_SHOW_HISTORY}",
        )
    return version
