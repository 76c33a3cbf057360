"""A small set of source files, good ones, to be spoilt by a test."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from db.source.training_set import X_TEST, X_TRAIN, Y_TRAIN, TrainingSet, check_source, read_training_set
from shared.errors import Problem

SEED, HOLDOUT = 42, 10
X_HEADER = ",designation,description,productid,imageid\n"
Y_HEADER = ",prdtypecode\n"
# Row 0 spans lines 2 to 5, so that row 1 begins on line 6 and row 2 on line 7.
X_ROWS = (
    '0,"Vase, ""bleu""","ligne 1\nligne 2\r\n\nligne 4",100,900\n',
    "1,Livre,,101,901\n",
    "2,Jeu,NA,102,902\n",
)
Y_ROWS = ("0,10\n", "1,2583\n", "2,40\n")


@dataclass(frozen=True)
class Sources:
    """A good data set in a directory, to be spoilt."""

    directory: Path

    def __post_init__(self) -> None:
        self.write(X_TRAIN, X_HEADER, *X_ROWS)
        self.write(Y_TRAIN, Y_HEADER, *Y_ROWS)
        self.write(X_TEST, X_HEADER, "7,Lampe,,200,910\n")

    def write(self, name: str, *text: str | bytes) -> None:
        parts = (part if isinstance(part, bytes) else part.encode() for part in text)
        (self.directory / name).write_bytes(b"".join(parts))

    def training_set(self, seed: int = SEED, holdout_percentage: int = HOLDOUT) -> TrainingSet:
        return read_training_set(self.directory, seed, holdout_percentage)

    def training_table(self) -> pa.Table:
        return in_file_order(self.training_set())


def in_file_order(training_set: TrainingSet) -> pa.Table:
    """All rows of a training set with their texts and labels, as the file holds them."""
    rows = training_set.rows(0, training_set.total_rows).drop(["image_path", "sample_rank", "split"])
    return rows.take(pa.array(np.argsort(training_set.order)))


def only_problem(directory: Path) -> Problem:
    (problem,) = check_source(directory)
    return problem
