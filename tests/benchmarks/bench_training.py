"""From the parquet file to a fitted model: ours on the distinct products, the usual way on all their copies."""

import operator
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from bench_ground import Ground
from bench_measure import Report, Sample, Task, alternate, in_child, in_usual_child, ratios
from sklearn.metrics import f1_score
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from listeners.promotion.compare import compare
from listeners.snapshot.balance import multiplicities
from listeners.snapshot.parquet import PRODUCTS_PER_ROW_GROUP, write_balanced
from listeners.training import model
from listeners.training.class_fits import EVERYTHING, Problem, fit_classes
from listeners.training.dataset import read_training_data
from listeners.training.features import merge_equal_columns
from listeners.training.text import TEXT_COLUMNS, text_cleaner

STAGE = "training"
ROUNDS = 5
SEED = 42
VECTORISED, FITTED, WHOLE = "cleaned and vectorised", "fitted", "parquet to model"


@dataclass
class Trained:
    """A fitted pipeline, and what each part of the way to it took."""

    pipeline: Pipeline | None = None
    parts: dict[str, Sample] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.parts[name] = Sample(time.perf_counter() - wall, time.process_time() - cpu)


def run(ground: Ground) -> Report:
    """Train in turns, each time in a process of its own: a fit leaves gigabytes behind."""
    dataset, holdout = ground.directory / "train.parquet", ground.directory / "holdout.parquet"
    copies = _write_dataset(ground, dataset)
    pq.write_table(ground.training_set.holdout(), holdout)
    children = {
        "ours": partial(in_child, prepare_ours, dataset, holdout),
        "two processes": partial(in_child, prepare_ours, dataset, None, 2),
        "calibrated": partial(in_child, prepare_calibrated, dataset),
        "unweighted": partial(in_child, prepare_unweighted, dataset),
        "usual": partial(in_usual_child, prepare_usual, dataset, holdout),
    }
    runs = alternate(children, ROUNDS, warm_up=False)
    report = Report(
        samples={
            f"{STAGE}, {part}": {
                name: [run.result["parts"][part] for run in of]
                for name, of in runs.items()
                if part in of[0].result["parts"]
            }
            for part in (VECTORISED, FITTED, WHOLE)
        }
    )
    _compare_times(report, f"{copies:,} copies")
    _compare_predictions(report, holdout, *(runs[name][0].result["predicted"] for name in ("ours", "usual")))
    for name in ("ours", "usual"):
        report.add(STAGE, f"peak memory, {name}", tuple(run.peak_mb for run in runs[name]), "MB")
    return report


def _compare_times(report: Report, copies: str) -> None:
    def line(what: str, part: str, name: str, base: str, **targets: float) -> None:
        report.compare(STAGE, what, report.samples[f"{STAGE}, {part}"], name, base, **targets)

    line(f"clean + TF-IDF of {copies} / ours", VECTORISED, "usual", "ours", at_least=4)
    line(f"LinearSVC on {copies} / ours", FITTED, "usual", "ours", at_least=2.5)
    line("physical limit: ours / the same rows without weights", FITTED, "ours", "unweighted")
    line("parquet to model, the usual way / ours", WHOLE, "usual", "ours", at_least=5)
    line("parquet to model with out-of-fold probabilities / without", WHOLE, "calibrated", "ours")
    fitted = report.samples[f"{STAGE}, {FITTED}"]
    faster = ratios(fitted, "ours", "two processes", "wall_s")
    report.add(STAGE, "LinearSVC in one process / in two, by the clock", faster, "x", at_least=1.6)


def _write_dataset(ground: Ground, path: Path) -> int:
    rows = ground.training_rows()
    copies = multiplicities(rows["productid"].to_numpy(), rows["prdtypecode"].to_numpy(), SEED)
    chunks = [
        rows.slice(first, PRODUCTS_PER_ROW_GROUP) for first in range(0, rows.num_rows, PRODUCTS_PER_ROW_GROUP)
    ]
    write_balanced(path, chunks, copies)
    return int(copies.sum())


def _compare_predictions(report: Report, holdout: Path, ours: np.ndarray, usual: np.ndarray) -> None:
    truth = pq.read_table(holdout, columns=["prdtypecode"])["prdtypecode"].to_numpy().astype(np.int64)
    score = f1_score(truth, ours, average="weighted")
    paired = compare(truth, ours, usual, seed=SEED)
    equal = 100 * float(np.mean(ours == usual))
    report.add(STAGE, f"equal predictions of {len(truth):,} holdout rows", equal, "%", at_least=99)
    report.add(STAGE, f"weighted F1, ours {score:.4f} - usual", paired.difference, "", at_least=-0.002)
    report.add(STAGE, "p of the paired test that ours is worse", paired.p_value, "", at_least=0.05)


def prepare_ours(dataset: Path, holdout: Path | None, processes: int = 1) -> Task:
    """In a child: the training stage's own way, without the out-of-fold fits, which the usual way does not have."""
    return Task(partial(_ours, dataset, processes), partial(_summary, holdout))


def prepare_calibrated(dataset: Path) -> Task:
    """In a child: all that the training stage fits."""
    return Task(partial(_calibrated, dataset), partial(_summary, None))


def prepare_unweighted(dataset: Path) -> Task:
    """In a child: the fit that the weights are held against."""
    data = read_training_data(dataset)
    _, features = model.vectorise(data.products, data.multiplicities)

    def work() -> Trained:
        trained = Trained()
        with trained.part(FITTED):
            model.linear_svc(SEED).fit(merge_equal_columns(features).matrix, data.labels)
        return trained

    return Task(work, partial(_summary, None))


def prepare_usual(dataset: Path, holdout: Path) -> Task:
    """In a child: the same model from scikit-learn's parts, on every copy."""
    return Task(partial(_usual, dataset), partial(_summary, holdout))


def _ours(dataset: Path, processes: int) -> Trained:
    trained = Trained()
    with trained.part(WHOLE):
        data = read_training_data(dataset)
        with trained.part(VECTORISED):
            union, features = model.vectorise(data.products, data.multiplicities)
        with trained.part(FITTED):
            merged = merge_equal_columns(features)
            del features
            options = model.linear_svc(SEED, rows=int(data.multiplicities.sum())).get_params()
            one_fold = np.zeros_like(data.labels)  # nothing is outside of it, so there is no further fit
            problem = Problem(merged.matrix, data.labels, data.multiplicities, one_fold, options)
            classifier = fit_classes(problem, processes=processes)[EVERYTHING]
    trained.pipeline = model.assemble(union, model.unmerged(classifier, merged))
    return trained


def _calibrated(dataset: Path) -> Trained:
    trained = Trained()
    with trained.part(WHOLE):
        data = read_training_data(dataset)
        model.fit(data.products, data.labels, data.multiplicities, seed=SEED, processes=1)
    return trained


def _usual(dataset: Path) -> Trained:
    trained = Trained()
    with trained.part(WHOLE):
        frame = pd.read_parquet(dataset, columns=[*TEXT_COLUMNS, "prdtypecode"])
        cleaner, union, classifier = text_cleaner(), _features(), model.linear_svc(SEED)
        with trained.part(VECTORISED):
            features = union.fit_transform(cleaner.transform(frame))
        with trained.part(FITTED):
            classifier.fit(features, frame["prdtypecode"].to_numpy())
    trained.pipeline = Pipeline([("clean", cleaner), ("features", union), ("classifier", classifier)])
    return trained


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
            for block in model.tfidf_blocks()
        ]
    )


def _summary(holdout: Path | None, trained: Trained) -> dict[str, Any]:
    """What the parent wants to know: the times of the parts, and the predictions of the holdout."""
    if holdout is None or trained.pipeline is None:
        return {"parts": trained.parts}
    return {"parts": trained.parts, "predicted": trained.pipeline.predict(pq.read_table(holdout).to_pandas())}
