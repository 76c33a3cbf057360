"""Find training products whose label is probably wrong, by confident learning.

The rule is the one of Northcutt, Jiang and Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels": a class is
*confident* for a product if its probability is at least the mean probability of the class among the products with this label. A product
is suspected if its most probable confident class is not its label. The probabilities come from models that have not seen the
product. No label is changed because of this: a person decides.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from listeners.training.dataset import TrainingData
from listeners.training.evaluate import Codes
from shared.categories import category_name

MAX_LOGGED: Final = 1000
_MAX_RECORDED: Final = 20


def find_suspects(
    labels: Codes, probabilities: npt.NDArray[np.float64], classes: Codes
) -> tuple[Codes, Codes]:
    """Return the rows whose label is suspected, the most suspicious first, and the class that each probably has.

    Args:
        labels: prdtypecode of each product, shape (n,), int64; each of `classes` occurs.
        probabilities: out-of-fold probabilities, shape (n, n_classes).
        classes: the class of each column, shape (n_classes,), int64, ascending.

    Returns:
        Row numbers and suggested classes, both of shape (n_suspects,), int64. They are sorted by how much more probable the suggested
        class is than the label; of equal ones, the lower row comes first.
    """
    given = np.searchsorted(classes, labels)
    own = probabilities[np.arange(len(labels)), given]
    means = np.bincount(given, own, len(classes)) / np.bincount(given, minlength=len(classes))
    confident = np.where(probabilities >= means, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    rows = np.flatnonzero((confident.max(axis=1) >= 0) & (suggested != given))
    gain = probabilities[rows, suggested[rows]] - own[rows]
    rows = rows[np.argsort(-gain, kind="stable")]
    return rows, classes[suggested[rows]]


def suspects_frame(
    data: TrainingData, probabilities: npt.NDArray[np.float64], classes: Codes, limit: int | None = MAX_LOGGED
) -> pd.DataFrame:
    """Return the `limit` most suspicious training products (all if None), with their titles, labels, suggested classes and probabilities.

    The columns are productid, designation, prdtypecode, category, probability, suggested_prdtypecode, suggested_category and
    suggested_probability.
    """
    rows, suggested = (values[:limit] for values in find_suspects(data.labels, probabilities, classes))
    given = data.labels[rows]
    return pd.DataFrame(
        {
            "productid": data.productids[rows],
            "designation": data.products["designation"].to_numpy()[rows],
            "prdtypecode": given,
            "category": [category_name(code) for code in given.tolist()],
            "probability": probabilities[rows, np.searchsorted(classes, given)].round(4),
            "suggested_prdtypecode": suggested,
            "suggested_category": [category_name(code) for code in suggested.tolist()],
            "suggested_probability": probabilities[rows, np.searchsorted(classes, suggested)].round(4),
        }
    )


def suspects_summary(suspects: pd.DataFrame) -> dict[str, Any]:
    """Return what PostgreSQL records about all suspects: how many there are, and the most suspicious 20 without their titles."""
    top = suspects[:_MAX_RECORDED]
    columns = (
        top[name].tolist()
        for name in ("productid", "prdtypecode", "suggested_prdtypecode", "suggested_probability")
    )
    names = ("productid", "prdtypecode", "suggested", "probability")
    return {
        "count": len(suspects),
        "top": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)],
    }
