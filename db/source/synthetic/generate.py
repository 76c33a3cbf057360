"""Write a synthetic data set in the format of the Rakuten challenge.

The texts are written in chunks. So the memory holds only a few numbers for each row and the texts of one chunk.
"""

import csv
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from db.source.file_names import files_named
from db.source.synthetic.draws import Draws, Integers
from db.source.synthetic.texts import TextWriter
from db.source.synthetic.vocabulary import CODES, read_vocabulary
from shared.categories import CATEGORIES
from shared.errors import BadInputError

MOST_ROWS: Final = 100_000_000

_CHALLENGE_ROWS: Final = 84_916
_CHALLENGE_TEST_ROWS: Final = 13_812
_CHUNK_ROWS: Final = 10_000
_PRODUCT_IDS: Final = (100_000, 4_300_000_000)
_IMAGE_IDS: Final = (1_000_000_000, 1_330_000_000)

_X_TRAIN: Final = "X_train.csv"
# The finished files are moved into the output directory in this order, X_train.csv last: if it exists, the others exist too.
_FILES: Final = ("Y_train.csv", "X_test.csv", "Y_test.csv", _X_TRAIN)

Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class _Split:
    """The training part or the test part of the data set.

    `classes` holds the class of each row as a position in `CODES`. `ranks` holds the place of each row when the rows of both
    parts are sorted by product id.
    """

    name: str
    first_index: int
    classes: Integers
    ranks: Integers

    def __len__(self) -> int:
        return len(self.classes)


def generate(
    out: Path,
    rows: int,
    *,
    seed: int = 42,
    test_rows: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write X_train, Y_train, X_test and Y_test as CSV into the directory `out`; return the number of test rows.

    The same rows, test_rows and seed give the same CSV bytes on any machine.

    Args:
        out: the directory, created if it is missing. The files appear only when all are complete, X_train.csv last.
        rows: the number of training rows, at least 27. The classes have the same proportions as in the data of the
            Rakuten challenge.
        seed: the seed of all random draws, 0 or more.
        test_rows: the number of test rows. By default, the proportion to `rows` is that of the Rakuten challenge.
        progress: called after each chunk with the number of rows written so far and the number of all rows.

    Raises:
        BadInputError: rows, test_rows or seed is out of range, `out` already holds a data set, or nothing can be written to it.
    """
    if test_rows is None:
        test_rows = round(rows * _CHALLENGE_TEST_ROWS / _CHALLENGE_ROWS)
    _check(out, rows, test_rows, seed)
    draws = Draws(seed)
    splits = _splits(rows, test_rows, draws)
    writer = TextWriter(read_vocabulary(), draws)
    written = 0
    with _unfinished_folder(out) as unfinished:
        for split in splits:
            for written_now in _write_rows(unfinished, split, rows + test_rows, writer, draws):
                written += written_now
                if progress is not None:
                    progress(written, rows + test_rows)
        for file in _FILES:
            (unfinished / file).rename(out / file)
    return test_rows


@contextmanager
def _unfinished_folder(out: Path) -> Iterator[Path]:
    """Create a folder in `out` for files that are not complete yet, and remove it at the end of the `with` block."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".generating-", dir=out) as name:
            yield Path(name)
    except OSError as error:
        raise BadInputError(
            f"cannot write a data set into {out}: {error.strerror}",
            remedy="generate into a folder that this user can write to, on a disk with enough space",
        ) from error


def _check(out: Path, rows: int, test_rows: int, seed: int) -> None:
    if not len(CODES) <= rows <= MOST_ROWS:
        raise BadInputError(
            f"cannot generate {rows} training rows",
            remedy=f"ask for {len(CODES)} (one row for each class) to {MOST_ROWS:,} rows; 4,000 are enough to train a model",
        )
    if not (0 <= test_rows <= MOST_ROWS and seed >= 0):
        raise BadInputError(
            f"cannot generate {test_rows} test rows from seed {seed}",
            remedy=f"ask for 0 to {MOST_ROWS:,} test rows, and a seed of 0 or more",
        )
    if existing := [path for file in _FILES for path in files_named(out, file)]:
        raise BadInputError(
            f"{existing[0]} exists, and generated data never replaces existing data",
            remedy=f"generate into another directory, or first move away {', '.join(path.name for path in existing)}",
        )


def class_counts(rows: int, *, at_least: int) -> Integers:
    """Return the number of rows of each class in `CODES`. The classes have the same proportions as in the Rakuten challenge.

    The numbers are rounded by the largest-remainder method, so that their sum is `rows`. A class that would have fewer
    than `at_least` rows takes the missing rows from the largest class.
    """
    shares = np.array([CATEGORIES[code].training_rows for code in CODES], dtype=np.int64)
    counts, remainders = np.divmod(shares * rows, shares.sum())
    largest_first = np.argsort(-remainders, kind="stable")
    counts[largest_first[: rows - counts.sum()]] += 1
    while counts.min() < at_least:
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return counts


def _splits(rows: int, test_rows: int, draws: Draws) -> tuple[_Split, _Split]:
    ranks = draws.permutation(rows + test_rows)
    train = np.repeat(np.arange(len(CODES)), class_counts(rows, at_least=min(2, rows // len(CODES))))
    test = np.repeat(np.arange(len(CODES)), class_counts(test_rows, at_least=0))
    return (
        _Split("train", 0, train[draws.permutation(rows)], ranks[:rows]),
        _Split("test", rows, test[draws.permutation(test_rows)], ranks[rows:]),
    )


def _write_rows(
    folder: Path, split: _Split, all_rows: int, writer: TextWriter, draws: Draws
) -> Iterator[int]:
    """Write the X and Y files of the training or test part in chunks. After each chunk, yield its number of rows."""
    with (
        (folder / f"X_{split.name}.csv").open("w", encoding="utf-8", newline="") as x_file,
        (folder / f"Y_{split.name}.csv").open("w", encoding="utf-8", newline="") as y_file,
    ):
        x_csv, y_csv = csv.writer(x_file, lineterminator="\n"), csv.writer(y_file, lineterminator="\n")
        x_csv.writerow(["", "designation", "description", "productid", "imageid"])
        y_csv.writerow(["", "prdtypecode"])
        for start in range(0, len(split), _CHUNK_ROWS):
            classes = split.classes[start : start + _CHUNK_ROWS]
            ranks = split.ranks[start : start + _CHUNK_ROWS]
            titles, descriptions = writer.write(classes)
            productids = _ids(ranks, all_rows, _PRODUCT_IDS, draws)
            imageids = _ids(ranks, all_rows, _IMAGE_IDS, draws)
            index = range(split.first_index + start, split.first_index + start + len(classes))
            x_csv.writerows(
                zip(index, titles, descriptions, productids.tolist(), imageids.tolist(), strict=True)
            )
            y_csv.writerows(zip(index, np.array(CODES)[classes].tolist(), strict=True))
            yield len(classes)


def _ids(ranks: Integers, all_rows: int, bounds: tuple[int, int], draws: Draws) -> Integers:
    """Return a random id within `bounds` for each row. `ranks` holds the rank of each row (see `_Split`).

    Each rank has its own range of ids, so the ids are unique. A row with a higher rank gets a higher id. Product ids and image
    ids are drawn for the same ranks, so the order of the rows by product id is also their order by image id.
    """
    low, high = bounds
    width = (high - low) // all_rows
    return low + ranks * width + draws.below(width, len(ranks))
