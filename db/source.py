"""The source files: found, fingerprinted, read and checked before a row is written.

`check` reports everything that is wrong; `read_training_set` and `read_test_set` refuse what it would report. The order in
which training rows arrive and which of them are held out are decided here, by hashes of the rows alone.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from db.checked_file import CheckedFile
from db.csv_file import INDEX
from db.text_group import text_group
from shared.errors import BadSourceError, Problem
from shared.hashing import Salt, keys, text_keys

X_TRAIN, Y_TRAIN, X_TEST, Y_TEST = "X_train.csv", "Y_train.csv", "X_test.csv", "Y_test.csv"
PRODUCT_COLUMNS = (INDEX, "designation", "description", "productid", "imageid")
LABEL_COLUMNS = (INDEX, "prdtypecode")


@dataclass(frozen=True)
class TrainingSet:
    """The labelled training rows, checked.

    `table` holds index, productid, imageid (int64), designation, description (string, nullable) and prdtypecode (int32),
    in file order; `order` lists its row numbers by sample rank: `order[0]` is the row that arrives first.
    """

    table: pa.Table
    order: npt.NDArray[np.int64]
    random_seed: int
    holdout_percentage: int

    @property
    def total_rows(self) -> int:
        return int(self.table.num_rows)

    def rows(self, first_rank: int, end_rank: int) -> pa.Table:
        """The rows with first_rank <= sample_rank < end_rank, in that order, with image_path, sample_rank and split."""
        rows = self.table.take(pa.array(self.order[first_rank:end_rank]))
        ranks = np.arange(first_rank, first_rank + rows.num_rows, dtype=np.int64)
        split = np.where(is_holdout(rows, self.random_seed, self.holdout_percentage), "holdout", "train")
        rows = rows.append_column("image_path", image_paths(rows, "image_train"))
        return rows.append_column("sample_rank", pa.array(ranks)).append_column(
            "split", pa.array(split, pa.string())
        )

    def holdout(self) -> pa.Table:
        """All rows of the file that are held out, in the order of their sample rank."""
        rows = self.rows(0, self.total_rows)
        return rows.filter(pc.equal(rows["split"], "holdout"))


def fingerprints(directory: Path) -> dict[str, str]:
    """SHA-256 of each source file there, by name."""
    digests = {}
    for name in (X_TRAIN, Y_TRAIN, X_TEST, Y_TEST):
        if (directory / name).is_file():
            with (directory / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def check(directory: Path) -> list[Problem]:
    """Everything that is wrong with the source files of a directory; an empty list says that they can be loaded."""
    problems: list[Problem] = []
    pairs = [(X_TRAIN, Y_TRAIN), (X_TEST, Y_TEST if (directory / Y_TEST).is_file() else None)]
    for products, labels in pairs:
        try:
            _read_pair(directory, products, labels)
        except BadSourceError as error:
            problems.extend(error.problems)
    return sorted(problems, key=lambda problem: (problem.file, problem.line or 0))


def read_training_set(directory: Path, random_seed: int, holdout_percentage: int) -> TrainingSet:
    """X_train.csv and Y_train.csv, joined by their index.

    Raises:
        BadSourceError: with every problem of the two files.
    """
    table = _read_pair(directory, X_TRAIN, Y_TRAIN)
    productids = table["productid"].to_numpy()
    # ties of the 63-bit keys are all but impossible, and still decided: by the id
    order = np.lexsort((productids, keys(productids, random_seed, Salt.SAMPLE)))
    return TrainingSet(table, order, random_seed, holdout_percentage)


def read_test_set(directory: Path) -> pa.Table:
    """X_test.csv in file order, with image_path and, where Y_test.csv exists, prdtypecode.

    Raises:
        BadSourceError: with every problem of the files.
    """
    table = _read_pair(directory, X_TEST, Y_TEST if (directory / Y_TEST).is_file() else None)
    return table.append_column("image_path", image_paths(table, "image_test"))


def image_paths(rows: pa.Table, folder: str) -> pa.Array:
    """Where the challenge keeps each product's image, relative to DATA_PATH."""
    names = [
        f"images/{folder}/image_",
        rows["imageid"].cast(pa.string()),
        "_product_",
        rows["productid"].cast(pa.string()),
    ]
    return pc.binary_join_element_wise(*names, ".jpg", "")


def is_holdout(rows: pa.Table, random_seed: int, holdout_percentage: int) -> npt.NDArray[np.bool_]:
    """Which rows are held out, shape (rows,): decided by the text, so that near-identical products stay on one side."""
    groups = map(text_group, rows["designation"].to_pylist(), rows["description"].to_pylist())
    held_out: npt.NDArray[np.bool_] = text_keys(groups, random_seed, Salt.HOLDOUT) % 100 < holdout_percentage
    return held_out


def _read_pair(directory: Path, products_name: str, labels_name: str | None) -> pa.Table:
    """Products joined with their labels by index, in file order; raises BadSourceError with every problem of both."""
    problems: list[Problem] = []
    parts = []
    for name, columns, read in (
        (products_name, PRODUCT_COLUMNS, _products),
        (labels_name, LABEL_COLUMNS, _labels),
    ):
        if name is None:
            continue
        try:
            file = CheckedFile(directory / name, columns)
        except BadSourceError as error:
            problems.extend(error.problems)
            continue
        parts.append((file, read(file)))
        problems.extend(file.problems)
    if problems:
        raise BadSourceError(problems)
    products = parts[0][1]
    if labels_name is None:
        return products
    return products.append_column("prdtypecode", _matched_labels(*parts[0], *parts[1]))


def _products(file: CheckedFile) -> pa.Table:
    columns = {
        "index": file.integers(INDEX),
        "productid": file.integers("productid"),
        "imageid": file.integers("imageid"),
    }
    file.unique(INDEX, columns["index"])
    file.unique("productid", columns["productid"])
    for column in ("designation", "description"):
        columns[column] = file.texts(column)
    return pa.table(columns)


def _labels(file: CheckedFile) -> pa.Table:
    index = file.integers(INDEX)
    file.unique(INDEX, index)
    return pa.table({"index": index, "prdtypecode": file.integers("prdtypecode")})


def _matched_labels(
    products_file: CheckedFile, products: pa.Table, labels_file: CheckedFile, labels: pa.Table
) -> pa.ChunkedArray:
    """The label of each product, in the products' order, int32."""
    index, label_index = products["index"].to_numpy(), labels["index"].to_numpy()
    codes = labels["prdtypecode"].cast(pa.int32())
    if np.array_equal(index, label_index):
        return codes
    problems = list(
        _unmatched(
            products_file, np.flatnonzero(~np.isin(index, label_index)), labels_file, "index without a label"
        )
    )
    problems += _unmatched(
        labels_file, np.flatnonzero(~np.isin(label_index, index)), products_file, "label without a row"
    )
    if problems:
        raise BadSourceError(problems)
    order = np.argsort(label_index)
    return codes.take(pa.array(order[np.searchsorted(label_index, index, sorter=order)]))


def _unmatched(
    file: CheckedFile, rows: npt.NDArray[np.int64], other: CheckedFile, reason: str
) -> Iterator[Problem]:
    file.report(
        rows,
        INDEX,
        reason,
        f"add the row to {other.path.name}, or remove this one; is either file truncated?",
    )
    yield from file.problems
