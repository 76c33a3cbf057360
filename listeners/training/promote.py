"""Moving the alias `champion`: by a paired comparison, one at a time, with the verdict kept on the challenger's run."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psycopg
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from psycopg.rows import TupleRow

from listeners.mlflow_runs import Tracking
from listeners.training.compare import compare
from listeners.training.registry import champion
from shared.errors import StageError
from shared.mlflow_names import (
    CHAMPION,
    HOLDOUT_PREDICTIONS,
    PROMOTION,
    REGISTERED_MODEL,
    TAG_BATCH_COMPLETED_AT,
)

# Any number that nothing else in this database locks: 'champ' in ASCII.
_CHAMPION_LOCK = 0x6368616D70


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
    alias never goes to a model that was not compared with the one it displaces.

    Returns:
        Whether the challenger is champion afterwards.
    """
    connection.execute("select pg_advisory_lock(%s)", [_CHAMPION_LOCK])
    try:
        holder = champion(tracking)
        if holder is not None and holder.version == version.version:
            return True  # an earlier attempt has come this far
        verdict = _verdict(tracking, challenger, holder, seed)
        tracking.client.log_dict(challenger.info.run_id, verdict, PROMOTION)
        if verdict["promote"]:
            tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, version.version)
        return bool(verdict["promote"])
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_CHAMPION_LOCK])


def _verdict(tracking: Tracking, challenger: Run, holder: ModelVersion | None, seed: int) -> dict[str, Any]:
    """What promotion.json says: at least `promote` and `reason`."""
    if holder is None:
        return {"promote": True, "reason": "there is no champion yet"}
    against = {"champion_version": int(holder.version)}
    try:
        run = tracking.client.get_run(str(holder.run_id)) if holder.run_id else None
        theirs = None if run is None else _predictions(tracking, run)
    except StageError:
        run, theirs = None, None
    if run is None or theirs is None:
        reason = "the champion was not made by this pipeline: move the alias by hand, or delete it"
        return {"promote": False, "reason": reason, **against}
    if run.data.tags.get(TAG_BATCH_COMPLETED_AT, "") > challenger.data.tags[TAG_BATCH_COMPLETED_AT]:
        return {"promote": False, "reason": "the champion has seen a later batch", **against}
    ours = _predictions(tracking, challenger)
    if not ours[["productid", "prdtypecode"]].equals(theirs[["productid", "prdtypecode"]]):
        reason = "the champion comes from another source and holdout: move the alias by hand, or delete it"
        return {"promote": False, "reason": reason, **against}
    truth = ours["prdtypecode"].to_numpy()
    comparison = compare(truth, ours["prediction"].to_numpy(), theirs["prediction"].to_numpy(), seed=seed)
    return {**asdict(comparison), **against}


def _predictions(tracking: Tracking, run: Run) -> pd.DataFrame:
    """productid, prdtypecode and prediction of the holdout, int64, as the run's model gave them."""
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        return pd.read_parquet(tracking.download(run, HOLDOUT_PREDICTIONS, Path(scratch)))
