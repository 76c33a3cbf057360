"""Draw figures for MLflow. The module does not use pyplot, which needs a display and keeps global state after a run."""

from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from listeners.training.evaluate import confusion_counts
from shared.categories import category_name

# Smaller values are shown only by colour: hundreds of numbers would hide the important ones.
_MIN_SHOWN_PERCENT: Final = 1.5
_MIN_WHITE_TEXT_PERCENT: Final = 55  # from here on, the colour map is too dark for black text


def confusion_figure(y_true: npt.NDArray[np.int64], y_pred: npt.NDArray[np.int64]) -> Figure:
    """Draw the confusion matrix, with each row in per cent of its true class.

    Args:
        y_true: prdtypecode of each row, shape (n,), int64, n > 0.
        y_pred: predicted prdtypecode of each row, shape (n,), int64.

    Returns:
        A figure for `mlflow.log_figure`; a code that is predicted but never true has an empty row.
    """
    codes = np.union1d(y_true, y_pred)
    counts = confusion_counts(y_true, y_pred, codes)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(5.0, 3.2 + 0.42 * len(codes))  # inches: a cell has room for "100", a label for one line
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
