"""Promote a new model: move the alias `champion` to it unless it is significantly worse, and log the verdict to its run.

A comparison with the champion alone is not enough. Each new champion may be a little worse than the last one, too little to be
significant, and many such losses add up without a limit. So the new model (the challenger) is also compared with the best
champion: the model with the best F1 among the present and all earlier champions that were not withdrawn by a rollback.

If k champions are equally good, the highest of their F1 values is high only by luck, so an equally good challenger usually has
a lower F1. To correct for this luck, a p-value of the comparison with the best of k champions is significant only below
0.05 / k (Bonferroni correction). With this comparison, the losses of many promotions cannot add up: the champion is worse than
the best champion by no more than the comparison can detect.

The simulation `tests/benchmarks/promotion_simulation.py` gave these numbers, for a holdout of 1,165 rows (of 8,490 rows):

| comparison                             | weeks of 100 with a wrong rejection | F1 lost in 20 weeks |
|----------------------------------------|-------------------------------------|---------------------|
| with the champion alone                | 6.8 (8.5)                           | 0.0244 (0.0047)     |
| also with the best champion            | 6.8 (12.8)                          | 0.0229 (0.0024)     |
| the same, but with 0.05 and not 0.05/k | 17.8 (18.5)                         | not listed          |

In the runs for the second column, every challenger is as good as the champion, so every rejection is wrong. In the runs for the
third column, the F1 of each challenger is 0.003 below the F1 of the week before.
"""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from listeners.outages import outage_of
from listeners.promotion.champion_alias import ChampionAlias
from listeners.promotion.champion_history import MoveKind
from listeners.promotion.compare import SIGNIFICANCE, Comparison, compare
from listeners.tracking.runs import Tracking
from shared.errors import StageError
from shared.hashing import sha256_of
from shared.mlflow_names import MODEL_EXPERIMENT, Artifact, Tag, promotion_name

_KEYS: Final = ["productid", "prdtypecode"]


class Promotion(NamedTuple):
    """Whether a model is the champion, and the name of the run's artifact with the result of its comparison.

    `verdict` is None if the model was never compared: somebody moved the alias `champion` to the model by hand before.
    """

    promoted: bool
    verdict: str | None


def ensure_promoted(
    tracking: Tracking,
    alias: ChampionAlias,
    challenger: Run,
    version: ModelVersion,
    *,
    seed: int,
    attempt: int,
) -> Promotion:
    """Make the challenger (a new model) the champion, unless it is significantly worse.

    The challenger is compared with the present champion and with the best of all champions so far.

    The caller holds the lock on `alias`. So even if two workers promote at once, each challenger is compared with exactly the
    champion that it replaces. Each attempt of the training stage writes the result of the comparison to an artifact of its own,
    so that an attempt that has lost its claim does not overwrite the result of another attempt.

    A rollback withdraws models. While a model is withdrawn, this function does not promote it again. It also does not promote
    any model that was trained on the same batch as a withdrawn model, or on an earlier batch. So a repeated training on a batch
    does not undo the rollback.
    """
    number = int(version.version)
    is_champion = alias.champion is not None and int(alias.champion.version) == number
    if is_champion or number in alias.state.withdrawn | alias.state.champions:
        # An earlier attempt at this training has promoted the challenger, or somebody has moved the alias by hand. A challenger
        # that was champion before is not promoted again.
        return Promotion(is_champion, _earlier_verdict(alias, number))
    verdict = _verdict(tracking, challenger, alias, seed)
    artifact = promotion_name(attempt)
    tracking.client.log_dict(challenger.info.run_id, verdict, artifact)
    if verdict["promote"]:
        by = str(challenger.info.run_name)
        alias.move(MoveKind.PROMOTION, version, verdict["reason"], by, artifact)
    return Promotion(verdict["promote"], artifact)


def _earlier_verdict(alias: ChampionAlias, version: int) -> str | None:
    """Return the name of the artifact with the result by which this version was promoted, or None if it was not compared."""
    return next((move.verdict for move in alias.history if move.to_version == version and move.verdict), None)


def _verdict(tracking: Tracking, challenger: Run, alias: ChampionAlias, seed: int) -> dict[str, Any]:
    """Decide whether to promote the challenger. Return the content of the run's artifact promotion.json.

    The content has at least `promote` and `reason`. After a comparison, it also has the results of the comparison.
    """
    if alias.champion is None:
        return {"promote": True, "reason": "there is no champion yet"}
    against = {"champion_version": int(alias.champion.version)}
    outcome = _rollback_verdict(challenger, alias) or _against_champion(
        tracking, challenger, alias, alias.champion, seed
    )
    if isinstance(outcome, str):
        return {"promote": False, "reason": outcome, **against}
    verdict = {**asdict(outcome), **against}
    if outcome.promote and (best := _against_best(tracking, challenger, alias, seed)) is not None:
        comparison, version, candidates = best
        verdict["best"] = {"version": version, "best_of": candidates, **asdict(comparison)}
        if not comparison.promote:
            verdict["promote"] = False
            verdict["reason"] += (
                f"; but against version {version}, the best of {candidates} champions: {comparison.reason}"
            )
    return verdict


def _rollback_verdict(challenger: Run, alias: ChampionAlias) -> str | None:
    """Return why an earlier rollback forbids the promotion of the challenger, or None if no rollback forbids it.

    A rollback to a model withdraws every champion whose batch is later than the batch of this model. A challenger is rejected
    unless its batch is later than the batch of every withdrawn champion. Batches are compared, not versions of the model: if an
    MLflow run is lost, the training is repeated and its model gets a new version.
    """
    number = alias.number_of(challenger)
    withdrawn = [version for version, other in alias.state.withdrawn.items() if other >= number]
    return f"version {withdrawn[-1]}, of this batch or a later one, was rolled back" if withdrawn else None


def _against_champion(
    tracking: Tracking, challenger: Run, alias: ChampionAlias, holder: ModelVersion, seed: int
) -> Comparison | str:
    """Compare the challenger with the champion `holder`, or return the reason why the two cannot be compared."""
    run = _run_of(tracking, holder)
    rival = None if run is None else _predictions_if_any(tracking, run)
    if run is None or rival is None:
        return "the champion was not made by this pipeline: move the alias by hand, or delete it"
    if alias.number_of(run) > alias.number_of(challenger):
        return "the champion was trained on a later batch"
    comparison = _comparison(_predictions(tracking, challenger), rival, seed, SIGNIFICANCE)
    return (
        comparison
        or "the champion comes from another source and holdout: move the alias by hand, or delete it"
    )


def _against_best(
    tracking: Tracking, challenger: Run, alias: ChampionAlias, seed: int
) -> tuple[Comparison, int, int] | None:
    """Compare the challenger with the best champion: the one with the highest F1 among the present and all earlier champions.

    Champions that a rollback has withdrawn do not count. Return (comparison, version of the best champion, number of champions
    that were considered). Return None if no comparison is possible, or if the best champion is the present champion: then
    `_against_champion` has already made this comparison.
    """
    state = alias.state.champions
    versions = {move.run_id: move.to_version for move in alias.history if move.to_version in state}
    runs = tracking.client.search_runs(
        [tracking.experiment_id(MODEL_EXPERIMENT)],
        f"attributes.run_id in ({', '.join(repr(run_id) for run_id in versions if run_id)})"
        f" and tags.{Tag.SOURCE_SHA256} = '{challenger.data.tags[Tag.SOURCE_SHA256]}'",
        order_by=["metrics.f1_score desc"],
    )
    if not runs or alias.champion is None or runs[0].info.run_id == alias.champion.run_id:
        return None
    best = runs[0]
    rival = _predictions_if_any(tracking, best)
    if rival is None:  # without the best champion's predictions, only the present champion can be compared
        return None
    comparison = _comparison(_predictions(tracking, challenger), rival, seed, SIGNIFICANCE / len(runs))
    version = versions[best.info.run_id]
    return None if comparison is None or version is None else (comparison, version, len(runs))


def _comparison(own: pd.DataFrame, rival: pd.DataFrame, seed: int, significance: float) -> Comparison | None:
    """Compare the challenger (`own`) with a champion (`rival`) by their predictions of the holdout.

    Return None if the two models have predicted different holdout rows.
    """
    if not own[_KEYS].equals(rival[_KEYS]):
        return None
    truth, own_codes, rival_codes = (
        column.to_numpy() for column in (own["prdtypecode"], own["prediction"], rival["prediction"])
    )
    return compare(truth, own_codes, rival_codes, seed=seed, significance=significance)


def _run_of(tracking: Tracking, version: ModelVersion) -> Run | None:
    """Return the MLflow run that trained a model version, or None if the version names no run or its run was deleted."""
    return tracking.run_if_any(str(version.run_id)) if version.run_id else None


def verdict_sha256(tracking: Tracking, run: Run, verdict: str) -> str:
    """Return the SHA-256 of the artifact with the result of a comparison, so that PostgreSQL can record it."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        return sha256_of(tracking.download(run, verdict, Path(scratch)))


def _predictions_if_any(tracking: Tracking, run: Run) -> pd.DataFrame | None:
    """Return the same DataFrame as `_predictions`, or None if the run has no file with predictions."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        path = _artifact_if_any(tracking, run, Artifact.HOLDOUT_PREDICTIONS, Path(scratch))
        return None if path is None else pd.read_parquet(path)


def _artifact_if_any(tracking: Tracking, run: Run, artifact: str, directory: Path) -> Path | None:
    """Download an artifact of a run, or return None if the run has no such artifact.

    If MLflow is unavailable, raise an error instead of returning None: the stage then waits until MLflow is available.
    """
    try:
        return tracking.download(run, artifact, directory)
    except StageError as error:
        if (outage := outage_of(error)) is not None:
            raise outage from error
        return None


def _predictions(tracking: Tracking, run: Run) -> pd.DataFrame:
    """Return the holdout predictions of a run's model: int64 columns productid, prdtypecode (the true class), prediction."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        return pd.read_parquet(tracking.download(run, Artifact.HOLDOUT_PREDICTIONS, Path(scratch)))
