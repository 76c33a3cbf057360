"""Build a dataset and its model once more, from the audit trail alone, and compare: bytes, metrics, parameters.

Nothing is published and nothing is read but what a stranger to the first run has: the history in PostgreSQL, the recorded seed,
and the holdout set, which depends on the source files alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psycopg
from mlflow.entities import Run
from psycopg.rows import TupleRow

from listeners.digest import sha256_of
from listeners.environment import differences, environment
from listeners.mlflow_runs import Tracking
from listeners.snapshot.handle import build
from listeners.training import model
from listeners.training.dataset import fetch, find_dataset, read_frame, read_training_data
from listeners.training.evaluate import evaluate
from listeners.verify import verify_batches
from shared.config import Settings
from shared.errors import StageError
from shared.mlflow_names import (
    ENVIRONMENT,
    HOLDOUT_SET,
    TAG_DATASET_SHA256,
    TAG_MODEL_SHA256,
    TAG_SOURCE_SHA256,
    parquet_name,
)


@dataclass(frozen=True)
class Verdict:
    """One step: whether it came out the same, what was compared, and, where it did not, the likely cause."""

    step: str
    same: bool
    detail: str
    cause: str | None = None


class Reproduction:
    """One batch, to be built again in `directory`."""

    def __init__(
        self,
        connection: psycopg.Connection[TupleRow],
        tracking: Tracking,
        settings: Settings,
        batch: tuple[int, str],
        directory: Path,
    ) -> None:
        self._connection = connection
        self._tracking = tracking
        self._settings = settings
        self._batch_id, self._batch_name = batch
        self._directory = directory
        self._sealed = True

    def dataset(self, run: Run) -> Iterator[Verdict]:
        """Check the trail up to the batch, then build its dataset and compare it with the recorded run's, byte for byte."""
        yield self._seals()
        path = self._rebuilt(run)
        seed = int(run.data.params["random_seed"])
        try:
            build(self._connection, self._batch_id, seed, path)
        except StageError as error:
            yield Verdict("dataset", False, error.message, self._cause(run))
            return
        then, now = run.data.tags[TAG_DATASET_SHA256], sha256_of(path)
        yield self._compared(
            "dataset", run, {"SHA-256": then}, {"SHA-256": now}, f"{path.stat().st_size:,} bytes"
        )
        logged = sha256_of(self._tracking.download(run, path.name, self._scratch("logged")))
        yield self._compared("file in MLflow", run, {"SHA-256": then}, {"SHA-256": logged}, path.name)

    def model(self, dataset: Run, run: Run) -> Iterator[Verdict]:
        """Train from the rebuilt dataset and compare every metric and every parameter with the recorded run's."""
        seed = int(run.data.params["random_seed"])
        data = read_training_data(self._rebuilt(dataset))
        classifier = model.fit(data.products, data.labels, data.multiplicities, seed=seed)
        source = {TAG_SOURCE_SHA256: run.data.tags[TAG_SOURCE_SHA256]}
        holdout = read_frame(
            fetch(
                self._tracking, find_dataset(self._tracking, HOLDOUT_SET, **source), self._scratch("holdout")
            )
        )
        truth = holdout["prdtypecode"].to_numpy().astype(np.int64)
        metrics = evaluate(truth, classifier.predict(holdout), seed=seed)
        yield self._compared(
            "metrics",
            run,
            dict(run.data.metrics),
            metrics,
            f"{len(metrics)} of them, F1 {metrics['f1_score']:.4f}",
        )
        then = {"SHA-256": run.data.tags.get(TAG_MODEL_SHA256)}
        now = {"SHA-256": model.parameters_sha256(classifier)}
        yield self._compared("parameters", run, then, now, "terms, weights, coefficients")

    def _seals(self) -> Verdict:
        """Of the batch and of all before it: its rows came with any of them."""
        checks = verify_batches(self._connection)
        names = [check.batch_name for check in checks]
        checks = checks[: names.index(self._batch_name) + 1]
        broken = next((check for check in checks if check.problem is not None), None)
        self._sealed = broken is None
        if broken is None:
            return Verdict("audit trail", True, f"{len(checks)} seals up to {self._batch_name}")
        return Verdict("audit trail", False, f"{broken.batch_name}: {broken.problem}", "data")

    def _compared(self, step: str, run: Run, then: dict[str, Any], now: dict[str, Any], what: str) -> Verdict:
        differing = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        if not differing:
            return Verdict(step, True, what)
        shown = ", ".join(f"{name} was {then.get(name)}, is {now.get(name)}" for name in differing[:3])
        return Verdict(step, False, f"{len(differing)} differ: {shown}", self._cause(run))

    def _cause(self, run: Run) -> str:
        """The most likely one, by what is known to differ from the first time."""
        if not self._sealed:
            return "data: the audit trail was changed"
        try:
            path = self._tracking.download(run, ENVIRONMENT, self._scratch("environment"))
        except StageError:
            return "unknown: the run does not say in which environment it was made"
        then = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(environment(self._settings)))
        changed = differences(then, now)
        return (
            "; ".join(changed[:5])
            if changed
            else "none that is recorded: the same code, libraries, settings and platform"
        )

    def _rebuilt(self, run: Run) -> Path:
        return self._scratch("rebuilt") / parquet_name(str(run.info.run_name))

    def _scratch(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        return directory


def reproduce(
    connection: psycopg.Connection[TupleRow],
    tracking: Tracking,
    settings: Settings,
    batch: tuple[int, str],
    runs: tuple[Run, Run | None],
) -> Iterator[Verdict]:
    """Rebuild a batch's dataset and, if it has one, its model, in a scratch place; a verdict for each step as it is done.

    Args:
        connection: of a role that may read the history.
        tracking: MLflow, which is only read.
        settings: the settings now, for naming what has changed.
        batch: its id and name.
        runs: the dataset's and the model's, as recorded.
    """
    dataset, trained = runs
    with TemporaryDirectory(prefix="rakuten-") as scratch:
        reproduction = Reproduction(connection, tracking, settings, batch, Path(scratch))
        rebuilt = False
        for verdict in reproduction.dataset(dataset):
            rebuilt = rebuilt or (verdict.step == "dataset" and verdict.same)
            yield verdict
        if trained is not None and rebuilt:
            yield from reproduction.model(dataset, trained)
        elif trained is not None:
            yield Verdict("model", False, "not trained: its dataset came out different", "its dataset")
