"""Results of the stages as PostgreSQL records them, made up: a test then needs neither MLflow nor a model."""

from jobs import claim_job, finish
from psycopg.types.json import Jsonb

from db.connect import connect
from db.database import Role
from shared.events import Stage


def drift_entry(feature, *, reference="before", drifted=False):
    js = 0.2 if drifted else 0.001
    sizes = {"rows": 300, "reference_rows": 2000}
    return {
        "feature": feature,
        "reference": reference,
        **sizes,
        "psi": js,
        "js": js,
        "noise": 0.03,
        "drifted": drifted,
    }


def dataset(number, *, classes=None, **others):
    """The result of the snapshot stage. `others` add keys, or replace keys."""
    return {
        "run_id": f"dataset{number}",
        "dataset": f"train_week_{number}",
        "total_rows": 900,
        "classes": classes or {"10": 30, "2280": 10},
        "artifact_bytes": {"train_week_1.parquet": 1000},
        "drift": [drift_entry("class shares"), drift_entry("language", reference="first")],
        **others,
    }


def model(number, f1=0.8, **others):
    """The result of the training stage: a model with this F1, whose interval reaches 0.02 to either side."""
    scores = {"f1_score": f1, "f1_score_ci_low": f1 - 0.02, "f1_score_ci_high": f1 + 0.02}
    return {
        "run_id": f"model{number}",
        "model_version": number,
        "champion": False,
        "drift": [drift_entry("unknown words")],
        **scores,
        **others,
    }


def record(database, settings, stage: Stage, batch_id: int, result: dict) -> None:
    """Claim a batch for a stage and record a result, as a worker of the stage does."""
    finish(claim_job(stage, database.conninfo(Role[stage.upper()]), settings, batch_id), result)


def record_both(database, settings, batch_id: int, f1: float = 0.8) -> None:
    record(database, settings, Stage.SNAPSHOT, batch_id, dataset(batch_id))
    record(database, settings, Stage.TRAINING, batch_id, model(batch_id, f1))


def promote(database, version: int) -> None:
    """Record that the model of this version, made by `model(version)`, is the champion."""
    move = {
        "sha256": f"5ea{version}",
        "number": version,
        "kind": "promotion",
        "to_version": version,
        "run_id": f"model{version}",
        "at": "2026-01-01",
        "by": "a test",
        "reason": "not significantly worse",
    }
    with connect(database.conninfo(Role.TRAINING), "test", autocommit=True) as connection:
        connection.execute("select record_champion_moves(%s)", [Jsonb([move])])
