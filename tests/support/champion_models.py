"""Models that are only predictions, and the last steps of the training stage for them, on a real registry."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from db.connect import connect
from db.database import Role
from listeners.promotion.champion_alias import champion_history
from listeners.promotion.choose_champion import ensure_promoted
from listeners.promotion.rollback import roll_back
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from shared.mlflow_names import CHAMPION, MODEL_EXPERIMENT, REGISTERED_MODEL, Artifact, Tag, model_run_name

ROWS = 1000
CODES = np.array([10, 40, 50, 60])
TRUTH = np.repeat(CODES, [400, 300, 260, 40])


def wrong(first, count):
    """Predictions that are wrong on `count` rows from `first` on."""
    predictions = TRUTH.copy()
    rows = slice(first, first + count)
    predictions[rows] = np.roll(CODES, -1)[np.searchsorted(CODES, TRUTH[rows])]
    return predictions


class Models:
    """The training stage's last steps, for models that are a column of predictions."""

    def __init__(self, database, settings, tmp_path):
        self.tracking = Tracking(settings)
        self.client = self.tracking.client
        self.conninfo = database.conninfo(Role.TRAINING)
        self.scratch = tmp_path

    def session(self):
        return connect(self.conninfo, "test", autocommit=True)

    def train(self, week, predictions, source="source"):
        """The run and the registered version of a week's model."""
        completed_at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(weeks=week)).isoformat()
        tags = {Tag.BATCH_ID: str(week), Tag.BATCH_COMPLETED_AT: completed_at, Tag.SOURCE_SHA256: source}
        experiment = self.tracking.experiment_id(MODEL_EXPERIMENT)
        run = self.client.create_run(experiment, run_name=model_run_name(f"week_{week}"), tags=tags)
        columns = {"productid": np.arange(ROWS), "prdtypecode": TRUTH, "prediction": predictions}
        path = self.scratch / Artifact.HOLDOUT_PREDICTIONS
        pd.DataFrame(columns).to_parquet(path)
        self.client.log_artifact(run.info.run_id, str(path))
        self.client.log_metric(run.info.run_id, "f1_score", f1_score(TRUTH, predictions, average="weighted"))
        self.client.set_terminated(run.info.run_id, "FINISHED")
        if not self.client.search_registered_models(f"name = '{REGISTERED_MODEL}'"):
            self.client.create_registered_model(REGISTERED_MODEL)
        version = self.client.create_model_version(
            REGISTERED_MODEL, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id, tags=tags
        )
        return self.client.get_run(run.info.run_id), version

    def promote(self, model):
        with self.session() as connection:
            return ensure_promoted(self.tracking, connection, *model, seed=42)

    def arrive(self, week, predictions, **options):
        """A week's model, trained and compared; returns it and whether it became champion."""
        model = self.train(week, predictions, **options)
        return model, self.promote(model)

    def roll_back(self, to_version=None, reason="labels of week 3 are wrong"):
        with self.session() as connection:
            return roll_back(self.tracking, connection, to_version, reason=reason, by="somebody")

    @property
    def champion(self):
        holder = registry.champion(self.tracking)
        return None if holder is None else int(holder.version)

    @property
    def moves(self):
        return [(move.kind, move.from_version, move.to_version) for move in champion_history(self.tracking)]

    def verdict(self, model):
        run, _version = model
        return json.loads(self.tracking.download(run, Artifact.PROMOTION, self.scratch).read_text())

    def move_by_hand(self, version):
        self.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, str(version))
