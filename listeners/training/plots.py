"""Draw figures for MLflow. The module uses no matplotlib.pyplot, which keeps global state and may need a display."""

from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

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
