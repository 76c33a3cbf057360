"""Models that are only predictions, and the last steps of the training stage for them, on a real registry."""

import json

import numpy as np
import pandas as pd
import psycopg
import search_path
from sklearn.metrics import f1_score

from db.batches import read_batch
from db.connect import connect
from db.database import Role
from listeners.promotion.champion_alias import champion_alias
from listeners.promotion.champion_history import champion_history
from listeners.promotion.choose_champion import ensure_promoted
from listeners.promotion.rollback import roll_back
from listeners.tracking import registry
from listeners.tracking.ownership import own_names
from listeners.tracking.runs import Tracking
from shared.mlflow_names import (
    CHAMPION,
    MODEL_EXPERIMENT,
    REGISTERED_MODEL,
    Artifact,
    Tag,
    dataset_name,
    model_run_name,
)

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
        self.superuser = database.embedded.conninfo(settings.postgres_db)
        self.scratch = tmp_path

    def session(self):
        return connect(self.conninfo, "test", autocommit=True)

    def complete(self, week, *, ahead="0 s"):
        """The completed batch of a week; a clock that is ahead stamps it."""
        with psycopg.connect(self.superuser, autocommit=True, options=search_path.OPTION) as connection:
            connection.execute(
                "insert into data_loads (batch_name, percentage, status) values (%s, 40, 'completed')"
                " on conflict do nothing",
                [f"week_{week}"],
            )
            connection.execute("alter table data_loads disable trigger _200_unchanged")
            [batch_id] = connection.execute(
                "update data_loads set completed_at = completed_at + %s where batch_name = %s returning id",
                [ahead, f"week_{week}"],
            ).fetchone()
            connection.execute("alter table data_loads enable always trigger _200_unchanged")
            return read_batch(connection, batch_id)

    def lose(self, *weeks):
        """Batches are gone, as after the restore of an older dump."""
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            connection.execute("alter table data_loads disable trigger _000_append_only")
            names = [f"week_{week}" for week in weeks]
            connection.execute("delete from data_loads where batch_name = any(%s)", [names])
            connection.execute("alter table data_loads enable always trigger _000_append_only")

    def end_sessions(self, application):
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where datname = current_database() and application_name = %s",
                [application],
            )

    def run(self, week, predictions, source="source", ahead="0 s"):
        """The finished run of a week's model."""
        tags = {
            **self.complete(week, ahead=ahead).mlflow_tags,
            Tag.SOURCE_SHA256: source,
            Tag.DATASET_NAME: dataset_name(f"week_{week}"),
        }
        experiment = self.tracking.experiment_id(MODEL_EXPERIMENT)
        run = self.client.create_run(experiment, run_name=model_run_name(f"week_{week}"), tags=tags)
        columns = {"productid": np.arange(ROWS), "prdtypecode": TRUTH, "prediction": predictions}
        path = self.scratch / Artifact.HOLDOUT_PREDICTIONS
        pd.DataFrame(columns).to_parquet(path)
        self.client.log_artifact(run.info.run_id, str(path))
        score = f1_score(TRUTH, predictions, average="weighted")
        for metric in ("f1_score", "f1_score_ci_low", "f1_score_ci_high"):
            self.client.log_metric(run.info.run_id, metric, score)
        logged = self.client.create_logged_model(experiment, name="model", source_run_id=run.info.run_id)
        self.client.set_tag(run.info.run_id, Tag.MODEL_URI, f"models:/{logged.model_id}")
        self.client.set_terminated(run.info.run_id, "FINISHED")
        return self.client.get_run(run.info.run_id)

    def finish(self, run, attempt=1):
        """What the training stage does with a finished run; returns the version's number and the promotion."""
        with self.session() as connection:
            own_names(self.tracking, connection)
        with champion_alias(self.tracking, self.conninfo) as alias:
            version = registry.ensure_registered(self.tracking, run)
            promotion = ensure_promoted(self.tracking, alias, run, version, seed=42, attempt=attempt)
            return int(version.version), promotion

    def train(self, week, predictions, **options):
        """The run and the registered version of a week's model."""
        run = self.run(week, predictions, **options)
        if not self.client.search_registered_models(f"name = '{REGISTERED_MODEL}'"):
            self.client.create_registered_model(REGISTERED_MODEL)
        version = self.client.create_model_version(
            REGISTERED_MODEL, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id, tags=run.data.tags
        )
        return run, version

    def promote(self, model, attempt=1):
        """Compare a model with the champion; returns whether it is the champion then."""
        with champion_alias(self.tracking, self.conninfo) as alias:
            return ensure_promoted(self.tracking, alias, *model, seed=42, attempt=attempt).promoted

    def arrive(self, week, predictions, **options):
        """A week's model, trained and compared; returns it and whether it became champion."""
        model = self.train(week, predictions, **options)
        return model, self.promote(model)

    def roll_back(self, to_version=None, reason="labels of week 3 are wrong"):
        return roll_back(self.tracking, self.conninfo, to_version, reason=reason, by="somebody")

    @property
    def champion(self):
        holder = registry.champion(self.tracking)
        return None if holder is None else int(holder.version)

    @property
    def moves(self):
        return [(move.kind, move.from_version, move.to_version) for move in champion_history(self.tracking)]

    @property
    def state(self):
        with champion_alias(self.tracking, self.conninfo) as alias:
            return alias.state

    def verdict(self, model, artifact="promotion.json"):
        run, _version = model
        return json.loads(self.tracking.download(run, artifact, self.scratch).read_text())

    def move_by_hand(self, version):
        self.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, str(version))
