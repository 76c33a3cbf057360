"""Fit the model on Spark: a logistic regression by Spark's own solver, on the features of the local engine.

The result is a scikit-learn pipeline with the steps of the local engine's model, so it needs neither Java nor pyspark. Spark has no
solver for the local engine's squared hinge loss. Both losses that it has are as good (docs/how-to/spark.md). The multinomial logistic
regression reads the features once for all classes, and LinearSVC once for each class: on 84,916 generated products and two cores it
took 168 s, and LinearSVC 9 to 10 s for each of 27 classes.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark import Broadcast, StorageLevel
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  Spark's own name for it
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from listeners.spark.session import set_shuffle_partitions
from listeners.training.calibration import parts, with_temperature
from listeners.training.features import join_blocks
from listeners.training.model import Hyperparameters, assemble, tfidf_blocks
from listeners.training.serialise import log_model, save_model
from listeners.training.spark.calibration import (
    FoldClassifier,
    collect_probabilities,
    inverse_temperature,
    score_fold,
)
from listeners.training.spark.features import clean_texts, find_vocabulary, vectorise

_Ints = npt.NDArray[np.int64]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Solver:
    """All choices that define the fit of the coefficients.

    `logistic_c` weighs the loss of one row against the penalty on the coefficients, as `Hyperparameters.svm_c` does, and each row weighs
    less beyond `logistic_c_rows` rows. On 4,000 real products (4 grouped folds), scikit-learn's logistic regression on the same features has
    weighted F1 0.741 with 1, 0.742 with 3, 0.745 with 10 and 0.739 with 30; the local engine has 0.746. With `logistic_tol` 0.01, Spark
    stops there after 32 to 34 iterations. More iterations lower the loss, but do not raise F1.
    """

    logistic_c: float = 10.0
    logistic_c_rows: int = 300_000
    logistic_tol: float = 0.01
    logistic_max_iter: int = 200

    def penalty(self, copies: int, copies_of_all: int) -> float:
        """Return Spark's regularisation of a fit on some of all rows: Spark divides the sum of the losses by their number."""
        return 1 / (self.logistic_c * min(1.0, self.logistic_c_rows / copies_of_all) * copies)


_TWO: Final = 2
FEATURES: Final = Hyperparameters()
SOLVER: Final = Solver()


@dataclass(frozen=True)
class SparkLinear:
    """A model that was fitted on Spark, as the training stage wants it (`trainers.FittedModel`).

    Spark adds the partial sums of the partitions in the order in which they arrive. So two fits differ in the last digits of the
    coefficients: there is no digest, but a tolerance.
    """

    pipeline: Pipeline
    out_of_fold: npt.NDArray[np.float64] | None
    features: Hyperparameters = FEATURES
    solver: Solver = SOLVER
    digest: None = None
    tolerance: float = 0.005

    @property
    def classes(self) -> _Ints:
        classes: _Ints = self.pipeline[-1].classes_
        return classes

    @property
    def hyperparameters(self) -> Mapping[str, str | int | float]:
        features = self.features.as_params().items()
        return {
            "solver": "Spark's multinomial logistic regression",
            **{name: value for name, value in features if not name.startswith("svm_")},
            **asdict(self.solver),
        }

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return whether Spark needed fewer iterations than `logistic_max_iter`.

        Their number is no metric: it may differ by one between two fits, and so be outside `tolerance`. The classifier has it (`n_iter_`).
        """
        classifier, _ = parts(self.pipeline[-1])
        return {"converged": float(classifier.n_iter_.max() < self.solver.logistic_max_iter)}

    def predict(self, products: pd.DataFrame) -> _Ints:
        codes: _Ints = self.pipeline.predict(products)
        return codes

    def predict_proba(self, products: pd.DataFrame) -> npt.NDArray[np.float64]:
        probabilities: npt.NDArray[np.float64] = self.pipeline.predict_proba(products)
        return probabilities

    def log(self, run_id: str) -> str:
        return log_model(run_id, self.pipeline)

    def save(self, folder: Path) -> None:
        """Write the model into a new folder, from which `mlflow.sklearn.load_model` loads it."""
        save_model(folder, self.pipeline)


def fit(
    products: DataFrame,
    *,
    seed: int,
    features: Hyperparameters = FEATURES,
    solver: Solver = SOLVER,
    progress: Callable[[str], None] = lambda _step: None,
) -> SparkLinear:
    """Fit a model on distinct products, with their copies as weights.

    Args:
        products: with the columns productid, designation, description, prdtypecode and copies; each product once. See
            `products.read_products`.
        seed: of the folds.
        features: which features; the `svm_` hyperparameters are not used.
        solver: how to fit the coefficients.
        progress: called with a few words at the start of each long step.

    Raises:
        ValueError: the products have fewer than two classes, or no term is frequent enough.
    """
    with ExitStack() as cleanup:

        def keep(frame: DataFrame) -> DataFrame:
            cleanup.callback(frame.unpersist)
            return frame.persist(StorageLevel.DISK_ONLY)

        def broadcast(value: _T) -> "Broadcast[_T]":
            shared = products.sparkSession.sparkContext.broadcast(value)
            cleanup.callback(shared.destroy)
            return shared

        progress("cleaning the texts")
        cleaned = keep(clean_texts(products, seed=seed))
        set_shuffle_partitions(products.sparkSession, cleaned.rdd.getNumPartitions())
        everything, outsides = _parts(cleaned)
        if len(everything.classes) < _TWO:
            raise ValueError("the products have fewer than two classes")

        progress("counting the terms")
        vocabulary = find_vocabulary(cleaned, tfidf_blocks(features), copies=everything.copies)
        vectorised = keep(vectorise(cleaned, broadcast(vocabulary)))

        progress("fitting the coefficients")
        classifier = _solve(vectorised, everything, solver, everything.copies)
        scored = []
        for fold, outside in outsides.items():
            progress(f"fitting the coefficients without fold {fold}")
            enough = len(outside.classes) >= _TWO
            found = (
                _solve(vectorised.filter(F.col("fold") != fold), outside, solver, everything.copies)
                if enough
                else None
            )
            scorer = FoldClassifier(found, vocabulary.shares(fold, features.min_df), everything.classes)
            scored.append(score_fold(vectorised.filter(F.col("fold") == fold), broadcast(scorer)))

        progress("calibrating the probabilities")
        # In Fortran order, as in `training.model.unmerged`.
        classifier.coef_ = np.asfortranarray(vocabulary.unmerged(classifier.coef_))
        classifier.n_features_in_ = len(vocabulary.column)
        scores = keep(reduce(DataFrame.unionByName, scored))
        inverse = inverse_temperature(scores)
        pipeline = assemble(join_blocks(vocabulary.blocks), with_temperature(classifier, inverse))
        return SparkLinear(pipeline, collect_probabilities(scores, inverse), features, solver)


class _Part(NamedTuple):
    """The classes and the number of copies of the products that a fit gets."""

    classes: _Ints
    copies: int


def _parts(cleaned: DataFrame) -> tuple[_Part, dict[int, _Part]]:
    """Return the part of all products, and for each fold the part of the products that are not in the fold."""
    counted = (
        cleaned.groupBy("fold", "prdtypecode").agg(F.sum("copies").alias("copies")).toArrow().to_pylist()
    )

    def part(left_out: int | None) -> _Part:
        rows = [row for row in counted if row["fold"] != left_out]
        return _Part(
            np.unique(np.array([row["prdtypecode"] for row in rows], np.int64)),
            sum(row["copies"] for row in rows),
        )

    return part(None), {fold: part(fold) for fold in sorted({row["fold"] for row in counted})}


def _solve(vectorised: DataFrame, part: _Part, solver: Solver, copies_of_all: int) -> LogisticRegression:
    """Fit the coefficients on Spark. Return them as a classifier of scikit-learn."""
    codes = F.array(*map(F.lit, part.classes.tolist()))
    rows = vectorised.select(
        (F.array_position(codes, F.col("prdtypecode")) - 1).cast("double").alias("label"),
        F.col("copies").cast("double").alias("copies"),
        "features",
    )
    fitted = SparkLogisticRegression(
        weightCol="copies",
        family="multinomial",
        regParam=solver.penalty(part.copies, copies_of_all),
        standardization=False,
        tol=solver.logistic_tol,
        maxIter=solver.logistic_max_iter,
    ).fit(rows)
    coefficients, intercepts = fitted.coefficientMatrix.toArray(), fitted.interceptVector.toArray()
    if len(part.classes) == _TWO:  # scikit-learn has one score for two classes
        coefficients, intercepts = ((values[1:] - values[:1]) / 2 for values in (coefficients, intercepts))
    classifier = LogisticRegression()
    classifier.classes_ = part.classes
    classifier.coef_, classifier.intercept_ = coefficients, intercepts
    classifier.n_iter_ = np.array([fitted.summary.totalIterations], np.int32)
    classifier.n_features_in_ = coefficients.shape[1]
    return classifier
