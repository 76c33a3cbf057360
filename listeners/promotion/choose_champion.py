"""Promotion: the alias `champion` moves to a new model that is not worse, and the verdict is kept on that model's run.

Not worse than the champion is not enough. A chain of losses, each too small to be significant, would lead down as far as one
likes. So a challenger is also held against the best: of all that were champion and were not withdrawn since, the one with the
best F1. The best of k equally good models is the luckiest, and a newcomer would look worse than it; therefore against the best
a p-value counts below 0.05 / k only (Bonferroni: all k comparisons together err as often as one). So a champion is never further
below the best there was than such a test can tell apart, however long the chain is.

`tests/benchmarks/promotion_simulation.py` is the evidence. Equally good newcomers on a holdout of 1,165 rows (8,490) are refused in
6.8 (8.5) of 100 weeks with the champion alone, in 6.8 (12.8) with both, and in 17.8 (18.5) with both but without the k. Where each
is worse than the last by 0.003, the champion of 20 weeks has lost 0.0244 (0.0047) without it, and 0.0229 (0.0024) with it.
"""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pandas as pd
import psycopg
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from psycopg.rows import TupleRow

from listeners.outages import outage_of
from listeners.promotion.champion_alias import AliasState, ChampionAlias, MoveKind, champion_alias
from listeners.promotion.compare import SIGNIFICANCE, Comparison, compare
from listeners.tracking.runs import Tracking
from shared.errors import StageError
from shared.hashing import sha256_of
from shared.mlflow_names import MODEL_EXPERIMENT, Artifact, Tag

_ROW: Final = ["productid", "prdtypecode"]


def ensure_promoted(
    tracking: Tracking,
    connection: psycopg.Connection[TupleRow],
    challenger: Run,
    version: ModelVersion,
    *,
    seed: int,
) -> bool:
    """Compare the challenger with whoever is champion now, and move the alias if it is not worse.

    Comparing and moving happen under one lock, so that no two challengers are measured against the same champion and the
    alias never goes to a model that was not compared with the one it displaces. A model that was withdrawn, and any other of
    its batch or of one before, stays out: a repeated attempt does not undo a rollback.

    Returns:
        Whether the challenger is champion afterwards.
    """
    with champion_alias(tracking, connection) as alias:
        if alias.champion is not None and int(alias.champion.version) == int(version.version):
            return True  # an earlier attempt has come this far
        if int(version.version) in alias.state.withdrawn | alias.state.champions:
            return False  # it was champion before; the verdict by which it was promoted is kept
        verdict = _verdict(tracking, challenger, alias, seed)
        tracking.client.log_dict(challenger.info.run_id, verdict, Artifact.PROMOTION)
        if verdict["promote"]:
            alias.move(MoveKind.PROMOTION, version, verdict["reason"], by=str(challenger.info.run_name))
        return bool(verdict["promote"])


def _verdict(tracking: Tracking, challenger: Run, alias: ChampionAlias, seed: int) -> dict[str, Any]:
    """What promotion.json says: at least `promote` and `reason`."""
    if alias.champion is None:
        return {"promote": True, "reason": "there is no champion yet"}
    against = {"champion_version": int(alias.champion.version)}
    outcome = _barred(challenger, alias.state) or _against_champion(
        tracking, challenger, alias.champion, seed
    )
    if isinstance(outcome, str):
        return {"promote": False, "reason": outcome, **against}
    verdict = {**asdict(outcome), **against}
    if outcome.promote and (best := _against_best(tracking, challenger, alias, seed)) is not None:
        comparison, version, of = best
        verdict["best"] = {"version": version, "best_of": of, **asdict(comparison)}
        if not comparison.promote:
            verdict["promote"] = False
            verdict["reason"] += (
                f"; but against version {version}, the best of {of} champions: {comparison.reason}"
            )
    return verdict


def _barred(challenger: Run, state: AliasState) -> str | None:
    """Why a rollback keeps the challenger out, or None.

    Its batch decides and not its version: a run that was lost is made again, and registered as another version.
    """
    moment = challenger.data.tags[Tag.BATCH_COMPLETED_AT]
    withdrawn = [version for version, seen in state.withdrawn.items() if seen >= moment]
    return f"version {withdrawn[-1]}, of this batch or a later one, was rolled back" if withdrawn else None


def _against_champion(
    tracking: Tracking, challenger: Run, holder: ModelVersion, seed: int
) -> Comparison | str:
    """The comparison, or why there can be none."""
    run = _run_of(tracking, holder)
    theirs = None if run is None else _predictions_if_any(tracking, run)
    if run is None or theirs is None:
        return "the champion was not made by this pipeline: move the alias by hand, or delete it"
    if run.data.tags.get(Tag.BATCH_COMPLETED_AT, "") > challenger.data.tags[Tag.BATCH_COMPLETED_AT]:
        return "the champion has seen a later batch"
    comparison = _compared(_predictions(tracking, challenger), theirs, seed, SIGNIFICANCE)
    return (
        comparison
        or "the champion comes from another source and holdout: move the alias by hand, or delete it"
    )


def _against_best(
    tracking: Tracking, challenger: Run, alias: ChampionAlias, seed: int
) -> tuple[Comparison, int, int] | None:
    """The comparison with the best of all champions, its version, and of how many it is the best; None where the best is the champion."""
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
    theirs = _predictions_if_any(tracking, best)
    if theirs is None:
        return None  # somebody has deleted them; the champion stands in
    comparison = _compared(_predictions(tracking, challenger), theirs, seed, SIGNIFICANCE / len(runs))
    version = versions[best.info.run_id]
    return None if comparison is None or version is None else (comparison, version, len(runs))


def _compared(ours: pd.DataFrame, theirs: pd.DataFrame, seed: int, significance: float) -> Comparison | None:
    """None where the two are not of the same rows."""
    if not ours[_ROW].equals(theirs[_ROW]):
        return None
    truth, challenger, rival = (
        column.to_numpy() for column in (ours["prdtypecode"], ours["prediction"], theirs["prediction"])
    )
    return compare(truth, challenger, rival, seed=seed, significance=significance)


def _run_of(tracking: Tracking, version: ModelVersion) -> Run | None:
    """The run that made a version; None where it belongs to none, or where that was purged."""
    return tracking.run_if_any(str(version.run_id)) if version.run_id else None


def verdict_sha256(tracking: Tracking, run: Run) -> str | None:
    """SHA-256 of promotion.json, for PostgreSQL to keep; None where somebody made it champion by hand before it was compared."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        path = _artifact_if_any(tracking, run, Artifact.PROMOTION, Path(scratch))
        return None if path is None else sha256_of(path)


def _predictions_if_any(tracking: Tracking, run: Run) -> pd.DataFrame | None:
    """productid, prdtypecode and prediction of the holdout, int64, as the run's model gave them; None where it has none."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        path = _artifact_if_any(tracking, run, Artifact.HOLDOUT_PREDICTIONS, Path(scratch))
        return None if path is None else pd.read_parquet(path)


def _artifact_if_any(tracking: Tracking, run: Run, artifact: str, directory: Path) -> Path | None:
    """None where the run has none. An MLflow that is away is an outage and no verdict: it is raised, and waited out."""
    try:
        return tracking.download(run, artifact, directory)
    except StageError as error:
        if (outage := outage_of(error)) is not None:
            raise outage from error
        return None


def _predictions(tracking: Tracking, run: Run) -> pd.DataFrame:
    """productid, prdtypecode and prediction of the holdout, int64, as the run's model gave them."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        return pd.read_parquet(tracking.download(run, Artifact.HOLDOUT_PREDICTIONS, Path(scratch)))
