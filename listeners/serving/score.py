"""Predict the classes of all products in a file, a few thousand at a time."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from db.source.csv_file import INDEX, CsvFile
from listeners.serving.model import Guess, ServedModel
from listeners.training.text import TEXT_COLUMNS

CHUNK_ROWS: Final = 1_024  # a call with more rows is not faster for each row, and needs more memory


class Scored(NamedTuple):
    """Consecutive products of a file: the index of each, as the file has it, and the guesses for it (`ServedModel.guesses`)."""

    indexes: Sequence[str]
    guesses: Sequence[Sequence[Guess]]


def score(model: ServedModel, products: CsvFile, chunk_rows: int = CHUNK_ROWS) -> Iterator[Scored]:
    """Yield the guesses for all products, in the order of the file. A chunk is predicted only when it is asked for.

    Args:
        model: the model to predict with.
        products: a file that `open_products` has checked.
        chunk_rows: the most products to predict at once. The guesses do not depend on it.
    """
    for block in products.blocks():
        for first in range(0, block.text.num_rows, chunk_rows):
            rows = block.text.slice(first, chunk_rows)
            guesses = model.guesses(rows.select(TEXT_COLUMNS).to_pandas())
            yield Scored(rows[INDEX].to_pylist(), guesses)
