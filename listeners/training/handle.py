"""Run the training stage: fit a model on a batch's dataset, evaluate, publish and register it, then decide on its promotion."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from db.connect import connect
from listeners.job import Job
from listeners.promotion.champion_alias import champion_alias
from listeners.promotion.choose_champion import ensure_promoted, verdict_sha256
from listeners.tracking import descriptions, registry
from listeners.tracking.ownership import own_names
from listeners.tracking.results import f1_by_class, read_json, recorded_drift, recorded_suspects
from listeners.tracking.runs import Publication, Tracking
from listeners.training import local  # noqa: F401  the fork server imports the default engine once, for all children
from listeners.training.card import Cost, ModelFacts, model_card
from listeners.training.dataset import TrainingData, fetch, find_dataset, read_frame
from listeners.training.drift import drift_document, read_sample
from listeners.training.engine import Fitted, Request, engine_of
from listeners.training.evaluate import report
from listeners.training.plots import confusion_figure, reliability_figure, risk_coverage_figure
from listeners.training.scores import HoldoutScores, score_holdout, score_test_set
from listeners.training.suspects import MAX_LOGGED, suspects_frame, suspects_summary
from listeners.training.trainers import FittedModel
from shared.config import Settings
from shared.mlflow_names import (
    HOLDOUT_SET,
    MODEL_EXPERIMENT,
    TEST_SET,
    Artifact,
    Param,
    Tag,
    dataset_name,
    model_run_name,
    parquet_name,
)

_RECORDED_METRICS = ("f1_score", "f1_score_ci_low", "f1_score_ci_high", "f1_macro", "accuracy")


def handle(job: Job) -> dict[str, Any]:
    """Train and publish the model of one batch, or reuse the model that an earlier attempt at this job has published.

    Register the model and decide whether it becomes the champion. Return what PostgreSQL records about the model.

    Raises:
        StageError: the dataset is missing in MLflow, or its file there is not the one that the snapshot stage logged.
    """
    tracking = Tracking(job.settings)
    name = model_run_name(job.batch.name)
    with connect(job.conninfo, "rakuten training names", autocommit=True) as connection:
        database = own_names(tracking, connection)
    run = tracking.finished_run(MODEL_EXPERIMENT, name, **job.batch.mlflow_tags)
    if run is None:
        run = _publish(tracking, job, name, database)
    with champion_alias(tracking, job.conninfo) as alias:
        # Ask for the claim while the alias is locked: another worker that takes over the batch waits for the lock.
        job.require_claim()
        version = registry.ensure_registered(tracking, run)
        promoted, verdict = ensure_promoted(
            tracking, alias, run, version, seed=job.settings.random_seed, attempt=job.attempt
        )
    if verdict is not None:
        _describe_verdict(tracking, run, verdict)
    metrics = {name: run.data.metrics[name] for name in _RECORDED_METRICS}
    return {
        "run_id": run.info.run_id,
        "model_version": int(version.version),
        "champion": promoted,
        "promotion": verdict,
        "promotion_sha256": None if verdict is None else verdict_sha256(tracking, run, verdict),
        **metrics,
        "f1_by_class": f1_by_class(run),
        **(record := tracking.record_of(run.info.run_id)),
        **recorded_drift(tracking, run, record),
        **recorded_suspects(tracking, run, record),
    }


def _describe_verdict(tracking: Tracking, run: Run, artifact: str) -> None:
    """Complete the description of a run: it was written before the model was compared. No digest covers the description."""
    verdict = read_json(tracking, run, artifact)
    description = descriptions.with_verdict(run.data.tags.get(MLFLOW_RUN_NOTE, ""), verdict, artifact)
    tracking.client.set_tag(run.info.run_id, MLFLOW_RUN_NOTE, description)


def _publish(tracking: Tracking, job: Job, name: str, database: str) -> Run:
    batch = job.batch
    dataset = find_dataset(tracking, dataset_name(batch.name), **batch.mlflow_tags)
    tags = {
        Tag.ATTEMPT: str(job.attempt),
        Tag.DATABASE: database,
        Tag.DATASET_NAME: dataset.info.run_name,
        Tag.DATASET_RUN_ID: dataset.info.run_id,
        Tag.DATASET_SHA256: dataset.data.tags[Tag.DATASET_SHA256],
        **batch.source_tags,
    }
    with (
        TemporaryDirectory(prefix="rakuten-") as scratch,
        tracking.publishing(MODEL_EXPERIMENT, name, tags, job.require_claim, **batch.mlflow_tags) as run,
    ):
        directory = Path(scratch)
        cost = Cost()
        with cost.step("reading the data"):
            holdout, test = (
                read_frame(fetch(tracking, find_dataset(tracking, name, **batch.source_tags), directory))
                for name in (HOLDOUT_SET, TEST_SET)
            )
            sample = _read_drift_sample(tracking, dataset, directory)
        with cost.step("training"):
            fitted = _fit(job.settings, tracking, dataset, sample or {}, directory)
        _log_fit(run, job, dataset, fitted)
        data, model = fitted.data, fitted.model
        with cost.step("the holdout"):
            scores = score_holdout(model, data.labels, holdout, seed=job.settings.random_seed)
        _log_scores(run, job, scores, holdout)
        run.values(metrics=dict(model.metrics), step=batch.week)
        suspects = _log_suspects(run, data, model)
        drift = {}
        if sample is not None:
            drift = drift_document(sample, data, model, fitted.earlier_words, seed=job.settings.random_seed)
            run.json(Artifact.DRIFT, drift)
        with cost.step("the test set"):
            _log_test_set(run, job, model, test)
        known = ModelFacts(
            dataset,
            data,
            model,
            job.settings.trainer,
            fitted.fitted_by,
            scores,
            holdout,
            suspects,
            drift.get("drift", []),
            cost,
        )
        run.card(model_card(batch, known, tracking.registered_model))
        model_uri = model.log(run.run_id)
        run.values(tags={Tag.MODEL_URI: model_uri})
        if model.digest is not None:
            run.values(tags={Tag.MODEL_SHA256: model.digest})
        run.logged_model(model_uri)
    return tracking.client.get_run(run.run_id)


def _fit(
    settings: Settings,
    tracking: Tracking,
    dataset: Run,
    sample: Mapping[str, npt.NDArray[np.int64]],
    directory: Path,
) -> Fitted:
    request = Request(
        settings=settings,
        name=dataset.info.run_name,
        trainer=settings.trainer,
        seed=settings.random_seed,
        fetch=lambda: fetch(tracking, dataset, directory),
        uri=dataset.data.tags.get(Tag.DATASET_URI),
        sha256=dataset.data.tags[Tag.DATASET_SHA256],
        sample=sample,
    )
    return engine_of(settings.engine, settings.trainer)(request)


def _log_fit(run: Publication, job: Job, dataset: Run, fitted: Fitted) -> None:
    rows = int(fitted.data.multiplicities.sum())
    run.values(
        params={
            Param.TRAINER: job.settings.trainer,
            Param.ENGINE: fitted.engine,
            **fitted.model.hyperparameters,
            Param.RANDOM_SEED: job.settings.random_seed,
            "week_number": job.batch.week,
            "dataset_rows": rows,
            "distinct_products": len(fitted.data.labels),
        }
    )
    run.dataset(
        dataset.info.run_name,
        dataset.data.tags[Tag.DATASET_DIGEST],
        dataset.data.tags.get(Tag.DATASET_URI)
        or f"runs:/{dataset.info.run_id}/{parquet_name(dataset.info.run_name)}",
        "training",
        {"num_rows": rows},
    )


def _log_scores(run: Publication, job: Job, scores: HoldoutScores, holdout: pd.DataFrame) -> None:
    """Log the model's scores on the holdout, and what it says about each holdout row.

    The promotion later compares two models row by row, so it needs the predictions.
    """
    run.values(metrics=scores.metrics, step=job.batch.week)
    run.text(Artifact.CLASSIFICATION_REPORT, report(scores.truth, scores.prediction))
    run.figure(Artifact.CONFUSION_MATRIX, confusion_figure(scores.truth, scores.prediction))
    if scores.confidence is not None:
        correct = scores.prediction == scores.truth
        run.figure(Artifact.RELIABILITY, reliability_figure(scores.confidence, correct))
        run.figure(Artifact.RISK_COVERAGE, risk_coverage_figure(scores.confidence, correct, scores.coverage))
        run.json(Artifact.COVERAGE, scores.coverage)
    path = run.scratch / Artifact.HOLDOUT_PREDICTIONS
    scores.frame(holdout["productid"]).to_parquet(path)
    run.file(path)


def _log_suspects(run: Publication, data: TrainingData, model: FittedModel) -> pd.DataFrame | None:
    """Log the training products whose label is probably wrong, and return all of them, or None without out-of-fold probabilities."""
    if model.out_of_fold is None:
        return None
    suspects = suspects_frame(data, model.out_of_fold, model.classes, limit=None)
    run.text(Artifact.LABEL_SUSPECTS, suspects[:MAX_LOGGED].to_csv(index=False))
    run.json(Artifact.SUSPECTS_SUMMARY, suspects_summary(suspects))
    return suspects


def _read_drift_sample(
    tracking: Tracking, dataset: Run, directory: Path
) -> dict[str, npt.NDArray[np.int64]] | None:
    """Download which products drift compares. Return None for a dataset of an earlier version, which does not say it."""
    if Artifact.DRIFT_SAMPLE not in tracking.record_of(dataset.info.run_id).get("artifact_bytes", {}):
        return None
    return read_sample(tracking.download(dataset, Artifact.DRIFT_SAMPLE, directory))


def _log_test_set(run: Publication, job: Job, model: FittedModel, test: pd.DataFrame) -> None:
    """Log the predictions of the test set as a CSV file that can be submitted to the challenge, and their metrics if it has labels.

    The file has an index column without a name and the column prdtypecode.
    """
    prediction, metrics = score_test_set(model, test)
    run.values(metrics=metrics, step=job.batch.week)
    submission = pd.Series(prediction, index=test["source_index"].to_numpy(), name="prdtypecode")
    run.text(Artifact.SUBMISSION, submission.to_csv())
