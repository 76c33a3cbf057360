"""Calibrate the probabilities of a model on Spark's workers, as `listeners.training.calibration` does in one process."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  Spark's own name for it
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from listeners.training.calibration import block_scores
from listeners.training.spark.features import as_matrix

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

# With more probabilities than these (432 MB on the driver), a model has no out-of-fold probabilities. They are those of two million
# products of 27 classes.
COLLECTED_PROBABILITIES: Final = 54_000_000
_SCORED: Final = "productid bigint, place int, scores array<double>"
_LOG_LIMIT: Final = 10.0  # scikit-learn searches the inverse temperature from exp(-10) to exp(10), too


class FoldClassifier(NamedTuple):
    """What gives the products of a fold their scores.

    Attributes:
        classifier: fitted without the fold, or None if fewer than two classes are left without it.
        shares: 1 for each column of each block, 0 for other columns and for terms that are too rare without the fold, shape
            (n_blocks, n_features); see `training.calibration.out_of_fold_scores`.
        classes: all classes, shape (n_classes,), int64, ascending.
    """

    classifier: LogisticRegression | None
    shares: _Floats
    classes: _Ints


def score_fold(vectorised: DataFrame, scorer: "Broadcast[FoldClassifier]") -> DataFrame:
    """Return for each product its productid, the place of its class in all classes, and its scores for all classes.

    A class that the classifier does not know gets the product's lowest score.
    """
    return vectorised.mapInArrow(partial(_score, scorer=scorer), _SCORED)


def _score(
    batches: Iterator[pa.RecordBatch], *, scorer: "Broadcast[FoldClassifier]"
) -> Iterator[pa.RecordBatch]:
    classifier, shares, classes = scorer.value
    for batch in batches:
        if classifier is None:
            scores = np.zeros((batch.num_rows, len(classes)))
        else:
            found = block_scores(classifier, as_matrix(batch.column("features"), shares.shape[1]), shares)
            scores = np.repeat(found.min(axis=1, keepdims=True), len(classes), axis=1)
            scores[:, np.searchsorted(classes, classifier.classes_)] = found
        places = np.searchsorted(classes, batch.column("prdtypecode").to_numpy()).astype(np.int32)
        ends = pa.array(np.arange(len(scores) + 1, dtype=np.int32) * len(classes))
        columns = [batch.column("productid"), pa.array(places)]
        columns.append(pa.ListArray.from_arrays(ends, pa.array(scores.ravel())))
        yield pa.RecordBatch.from_arrays(columns, ["productid", "place", "scores"])


def inverse_temperature(scores: DataFrame) -> float:
    """Return the number by which scores are multiplied, so that their softmax fits the classes best (log loss).

    The derivative of the log loss with respect to this number is the mean score minus the score of the true class, added up over all
    products; it rises with the number. `math.fsum` makes the sum independent of the order.

    Args:
        scores: what `score_fold` returned, of all folds.
    """

    def slope(logarithm: float) -> float:
        parts = scores.mapInArrow(partial(_slope, inverse=math.exp(logarithm)), "slope double").toArrow()
        return math.fsum(parts["slope"].to_pylist())

    if slope(_LOG_LIMIT) <= 0:
        return math.exp(_LOG_LIMIT)
    if slope(-_LOG_LIMIT) >= 0:
        return math.exp(-_LOG_LIMIT)
    return math.exp(brentq(slope, -_LOG_LIMIT, _LOG_LIMIT, xtol=1e-9))


def _slope(batches: Iterator[pa.RecordBatch], *, inverse: float) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        scores = _rows(batch.column("scores"))
        places = batch.column("place").to_numpy()
        slopes = (softmax(inverse * scores, axis=1) * scores).sum(axis=1) - scores[
            np.arange(len(places)), places
        ]
        yield pa.RecordBatch.from_arrays([pa.array([math.fsum(slopes)])], ["slope"])


def collect_probabilities(scores: DataFrame, inverse: float) -> _Floats | None:
    """Return the probabilities of all products, sorted by productid, or None if there are more than COLLECTED_PROBABILITIES."""
    row = scores.agg(F.sum(F.size("scores"))).first()
    if row is None or row[0] > COLLECTED_PROBABILITIES:
        return None
    collected = scores.orderBy("productid").select("scores").toArrow()["scores"].combine_chunks()
    probabilities: _Floats = softmax(inverse * _rows(collected), axis=1)
    return probabilities


def _rows(lists: pa.ListArray) -> _Floats:
    """Return lists of equal length as the rows of a matrix."""
    values: _Floats = lists.flatten().to_numpy().reshape(len(lists), -1)
    return values
