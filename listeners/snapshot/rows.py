"""Count what the data card says about the texts of a dataset's products."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXTS: Final = ("designation", "description")
QUANTILES: Final = (0.5, 0.95, 1.0)


@dataclass(frozen=True)
class RowsSummary:
    """What the card says about the texts.

    Attributes:
        missing: share of the products that lack a text or an image, by column.
        lengths: median, 95 % quantile and maximum of a text's length in characters, by column; empty if there are no texts.
        repeated_titles: number of products with a title that another product of the dataset has, too, not counting the first.
    """

    missing: dict[str, float]
    lengths: dict[str, list[int]]
    repeated_titles: int


class RowsCounter:
    """Count the rows of a dataset while they are read. Of each row, 16 bytes are kept."""

    def __init__(self) -> None:
        self._lengths: dict[str, list[npt.NDArray[np.int32]]] = {name: [] for name in TEXTS}
        self._titles: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._nulls: dict[str, int] = {}
        self._rows = 0

    def collect(self, rows: pa.Table) -> None:
        """Count the rows of a table with the columns of the dataset."""
        self._rows += rows.num_rows
        for name in (*TEXTS, "imageid"):
            self._nulls[name] = self._nulls.get(name, 0) + rows[name].null_count
        for name, lengths in self._lengths.items():
            lengths.append(pc.utf8_length(rows[name]).drop_null().to_numpy())
        self._titles.append(title_hashes(rows["designation"]).drop_null().to_numpy())

    def summary(self) -> RowsSummary:
        titles = np.concatenate(self._titles)
        return RowsSummary(
            missing={name: count / max(1, self._rows) for name, count in self._nulls.items()},
            lengths={
                name: quantiles(np.concatenate([np.empty(0, np.int32), *lengths]))
                for name, lengths in self._lengths.items()
            },
            repeated_titles=len(titles) - len(np.unique(titles)),
        )


def title_hashes(titles: pa.ChunkedArray) -> pa.Array:
    """Return a hash of each title, int64, or null for a title that is null."""
    hashes = pd.util.hash_array(titles.fill_null("").to_numpy(), categorize=False).view(np.int64)
    return pa.array(hashes, mask=titles.is_null().to_numpy())


def quantiles(lengths: npt.NDArray[np.int32]) -> list[int]:
    """Return the `QUANTILES` of lengths, rounded down; no number if there is no length."""
    return np.quantile(lengths, QUANTILES).astype(int).tolist() if len(lengths) else []
