"""Choose the products that are held out. No model is trained on them, and every model is evaluated on them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from db.source.text_group import text_groups
from shared.hashing import Salt, text_keys


def is_holdout(rows: pa.Table, random_seed: int, holdout_percentage: int) -> npt.NDArray[np.bool_]:
    """Return for each product row whether the product is held out, shape (rows,).

    A hash of `random_seed` and a product's simplified text (`text_groups`) decides whether the product is held out. So products
    with nearly the same text are either all held out or all in training.
    """
    groups = text_groups(rows["designation"].to_pylist(), rows["description"].to_pylist())
    held_out: npt.NDArray[np.bool_] = text_keys(groups, random_seed, Salt.HOLDOUT) % 100 < holdout_percentage
    return held_out
