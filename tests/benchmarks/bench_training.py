"""From the parquet file to a fitted model: ours on the distinct products, the usual way on all their copies."""

import operator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from bench_ground import Ground
from bench_measure import Report, Task, in_child
from sklearn.metrics import f1_score
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from listeners.snapshot.balance import multiplicities
from listeners.snapshot.parquet import PRODUCTS_PER_ROW_GROUP, write_balanced
from listeners.training import model
from listeners.training.dataset import read_training_data
from listeners.training.text import TEXT_COLUMNS, text_cleaner

STAGE = "training"
ROUNDS = 3
SEED = 42


def run(ground: Ground) -> Report:
    """Train both ways, in turns, each time in a process of its own: a fit leaves gigabytes behind."""
    dataset, holdout = ground.directory / "train.parquet", ground.directory / "holdout.parquet"
    copies = _write_dataset(ground, dataset)
    pq.write_table(ground.training_set.holdout(), holdout)
    runs = {"ours": [], "usual": []}
    for _ in range(ROUNDS):
        for name, prepare in (("ours", prepare_ours), ("usual", prepare_usual)):
            runs[name].append(in_child(prepare, dataset, holdout))
    report = Report(samples={STAGE: {name: [run.sample for run in of] for name, of in runs.items()}})
    report.compare(
        STAGE,
        f"TF-IDF + LinearSVC on {copies:,} copies / ours",
        report.samples[STAGE],
        "usual",
        "ours",
        at_least=3,
    )
    _compare_predictions(report, holdout, runs["ours"][0].result, runs["usual"][0].result)
    for name, of in runs.items():
        report.add(STAGE, f"peak memory, {name}", tuple(run.peak_mb for run in of), "MB")
    return report


def _write_dataset(ground: Ground, path: Path) -> int:
    rows = ground.training_rows()
    copies = multiplicities(rows["productid"].to_numpy(), rows["prdtypecode"].to_numpy(), SEED)
    chunks = [
        rows.slice(first, PRODUCTS_PER_ROW_GROUP) for first in range(0, rows.num_rows, PRODUCTS_PER_ROW_GROUP)
    ]
    write_balanced(path, chunks, copies)
    return int(copies.sum())


def _compare_predictions(report: Report, holdout: Path, ours: np.ndarray, usual: np.ndarray) -> None:
    truth = pq.read_table(holdout, columns=["prdtypecode"])["prdtypecode"].to_numpy()
    score, usual_score = (f1_score(truth, prediction, average="weighted") for prediction in (ours, usual))
    report.add(
        STAGE,
        f"equal predictions of {len(truth):,} holdout rows",
        100 * float(np.mean(ours == usual)),
        "%",
        at_least=99,
    )
    report.add(STAGE, f"weighted F1, ours {score:.4f} - usual", score - usual_score, "", at_least=-0.002)


def prepare_ours(dataset: Path, holdout: Path) -> Task:
    """In a child: the training stage's own way."""

    def work() -> Pipeline:
        data = read_training_data(dataset)
        return model.fit(data.products, data.labels, data.multiplicities, seed=SEED)

    return Task(work, partial(_predict, holdout))


def prepare_usual(dataset: Path, holdout: Path) -> Task:
    """In a child: the same model from scikit-learn's parts, on every copy."""

    def work() -> Pipeline:
        frame = pd.read_parquet(dataset, columns=[*TEXT_COLUMNS, "prdtypecode"])
        pipeline = Pipeline(
            [("clean", text_cleaner()), ("features", _features()), ("classifier", _classifier())]
        )
        return pipeline.fit(frame, frame["prdtypecode"].to_numpy())

    return Task(work, partial(_predict, holdout))


def _features() -> FeatureUnion:
    return FeatureUnion(
        [
            (
                block.name,
                Pipeline(
                    [
                        ("column", FunctionTransformer(operator.itemgetter(block.column))),
                        ("tfidf", block.vectorizer),
                    ]
                ),
            )
            for block in model._blocks(model.DEFAULTS)
        ]
    )


def _classifier() -> LinearSVC:
    chosen = model.DEFAULTS
    return LinearSVC(
        C=chosen.svm_c,
        loss=chosen.svm_loss,
        tol=chosen.svm_tol,
        max_iter=chosen.svm_max_iter,
        random_state=SEED,
    )


def _predict(holdout: Path, pipeline: Pipeline) -> np.ndarray:
    return pipeline.predict(pq.read_table(holdout).to_pandas())
