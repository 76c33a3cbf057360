"""Draw figures for MLflow. The module uses no matplotlib.pyplot, which keeps global state and may need a display."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from listeners.training.confidence import confidence_bins
from listeners.training.evaluate import confusion_counts
from shared.categories import category_name

# Cells of the confusion matrix below this percentage get a colour but no number: hundreds of numbers would be too many.
_MIN_SHOWN_PERCENT: Final = 1.5
_MIN_WHITE_TEXT_PERCENT: Final = 55  # above this percentage, a cell of the matrix is too dark for black text


def confusion_figure(y_true: npt.NDArray[np.int64], y_pred: npt.NDArray[np.int64]) -> Figure:
    """Draw the confusion matrix. A row stands for a true class, and a column for a predicted class.

    A cell shows which percentage of the products of the true class was predicted as the column's class.

    Args:
        y_true: prdtypecode of each row, shape (n,), int64, n > 0.
        y_pred: predicted prdtypecode of each row, shape (n,), int64.

    Returns:
        A figure for MLflow. If no product truly belongs to a predicted class, the row of this class has only zeros.
    """
    codes = np.union1d(y_true, y_pred)
    counts = confusion_counts(y_true, y_pred, codes)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The height in inches: 0.42 for each class, so that a cell has room for "100".
    side = max(5.0, 3.2 + 0.42 * len(codes))
    figure = Figure(figsize=(side + 3, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="% of the true class", shrink=0.5)
    ticks = np.arange(len(codes))
    axes.set_xticks(ticks, [str(code) for code in codes], rotation=90)
    axes.set_yticks(ticks, [f"{category_name(code)}  {code}" for code in codes.tolist()])
    axes.set(
        xlabel="predicted", ylabel="true", title=f"Confusion matrix, {len(y_true)} rows, % of the true class"
    )
    for row, column in np.argwhere(percent >= _MIN_SHOWN_PERCENT):
        value = percent[row, column]
        colour = "white" if value > _MIN_WHITE_TEXT_PERCENT else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def risk_coverage_figure(
    confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], coverage: Sequence[Mapping[str, Any]]
) -> Figure:
    """Draw the accuracy of the predictions with the highest confidence against their share of the holdout.

    Args:
        confidence: of each prediction, shape (n,), n > 0.
        correct: whether each prediction is right, shape (n,).
        coverage: what each threshold accepts; see `confidence.coverage`. Each is a point with its interval.
    """
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(counts / len(order), np.cumsum(correct[order]) / counts, color="tab:blue")
    points: dict[
        float, list[Mapping[str, Any]]
    ] = {}  # several targets may have one threshold, and then share a point
    for entry in coverage:
        if entry["accuracy"] is not None:
            points.setdefault(entry["coverage"], []).append(entry)
    for share, entries in points.items():
        ends = [entries[0]["accuracy_ci_low"], entries[0]["accuracy_ci_high"]]
        axes.plot([share] * 2, ends, color="black", linewidth=1)
        axes.plot(share, entries[0]["accuracy"], "o", color="black")
        label = "target " + ", ".join(f"{entry['target']:.0%}" for entry in entries)
        axes.annotate(label, (share, ends[0]), xytext=(4, -10), textcoords="offset points", fontsize=8)
    axes.set(
        xlabel="share of the holdout with the highest confidence",
        ylabel="accuracy",
        title=f"Accuracy against coverage, {len(order):,} rows\npoints: thresholds from the training products",
    )
    axes.grid(linewidth=0.4)
    return figure


def reliability_figure(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> Figure:
    """Draw the accuracy of the predictions in each tenth of the confidence, above the number of these predictions.

    Args:
        confidence: of each prediction, shape (n,), n > 0.
        correct: whether each prediction is right, shape (n,).
    """
    figure = Figure(figsize=(6, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    for part in confidence_bins(confidence):
        centre = confidence[part].mean()
        upper.plot([centre] * 2, [centre, correct[part].mean()], color="tab:red", linewidth=1)
        upper.plot(centre, correct[part].mean(), "o", color="tab:blue")
    upper.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    upper.set(
        ylabel="accuracy", title=f"Reliability of the probabilities, {len(confidence):,} rows", ylim=(0, 1)
    )
    lower.hist(confidence, bins=10, range=(0, 1), color="tab:blue")
    lower.set(xlabel="confidence", ylabel="rows", xlim=(0, 1))
    return figure
