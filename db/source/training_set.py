"""Hash, read and check the CSV files of the Rakuten challenge before any of their rows is written to PostgreSQL.

`check_source` returns all problems of the files. `read_training_set` and `read_test_set` reject files with a problem.

A seeded hash of the productid decides the order in which training rows are loaded. A seeded hash of the text decides which
training rows are held out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from db.source.checked_file import CheckedFile
from db.source.csv_file import INDEX, CsvFile
from db.source.file_names import find_source_file
from db.source.holdout import is_holdout
from shared.errors import BadSourceError, Problem
from shared.hashing import Salt, keys, sha256_of

X_TRAIN, Y_TRAIN, X_TEST, Y_TEST = "X_train.csv", "Y_train.csv", "X_test.csv", "Y_test.csv"
TEXT_COLUMNS = ("designation", "description")
PRODUCT_COLUMNS = (INDEX, *TEXT_COLUMNS, "productid", "imageid")
LABEL_COLUMNS = (INDEX, "prdtypecode")
_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class TrainingSet:
    """The rows of X_train.csv with their labels, checked. Their texts are read from the file only when a method needs them.

    `table` holds index, productid, imageid (int64) and prdtypecode (int32), in file order. `order` lists the row numbers of
    `table` in the order in which the rows are loaded. The position of a row in `order` is its sample rank.
    """

    csv: CsvFile
    table: pa.Table
    order: npt.NDArray[np.int64]
    random_seed: int
    holdout_percentage: int

    @property
    def total_rows(self) -> int:
        return int(self.table.num_rows)

    def rows(self, first_rank: int, end_rank: int) -> pa.Table:
        """Return the rows with first_rank <= sample_rank < end_rank, ordered by sample_rank.

        A row has the columns index, productid, imageid, prdtypecode, designation, description, image_path, sample_rank, split.
        """
        return self._rows(np.arange(first_rank, end_rank))

    def chunks(self, first_rank: int, end_rank: int) -> Iterator[pa.Table]:
        """Yield the rows with first_rank <= sample_rank < end_rank in chunks, ordered by productid.

        The order is for speed: PostgreSQL inserts rows faster in the order of its index on productid than in random order.
        """
        ranks = self._ranks_by_productid(first_rank, end_rank)
        for start in range(0, len(ranks), _CHUNK_ROWS):
            yield self._rows(ranks[start : start + _CHUNK_ROWS])

    def labels(self, first_rank: int, end_rank: int) -> pa.Table:
        """Return productid and prdtypecode of the rows with first_rank <= sample_rank < end_rank, ordered by productid."""
        rows = self.table.select(["productid", "prdtypecode"])
        return rows.take(pa.array(self.order[self._ranks_by_productid(first_rank, end_rank)]))

    def holdout(self) -> pa.Table:
        """Return all held-out rows of X_train.csv, ordered by sample rank."""
        chunks = [rows.filter(pc.equal(rows["split"], "holdout")) for rows in self.chunks(0, self.total_rows)]
        return pa.concat_tables(chunks).sort_by("sample_rank").combine_chunks()

    def _ranks_by_productid(self, first_rank: int, end_rank: int) -> npt.NDArray[np.int64]:
        productids = self.table["productid"].to_numpy()[self.order[first_rank:end_rank]]
        return first_rank + np.argsort(productids)

    def _rows(self, ranks: npt.NDArray[np.int64]) -> pa.Table:
        numbers = self.order[ranks]
        texts = self.csv.rows(numbers).select(TEXT_COLUMNS)
        split = np.where(is_holdout(texts, self.random_seed, self.holdout_percentage), "holdout", "train")
        rows = self.table.take(pa.array(numbers))
        return pa.table(
            {
                **_columns(rows),
                **_columns(texts),
                "image_path": image_paths(rows, "image_train"),
                "sample_rank": pa.array(ranks, pa.int64()),
                "split": pa.array(split, pa.string()),
            }
        )


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def fingerprints(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each source file that exists in a directory, by its name without a suffix, such as X_train.csv."""
    paths = {name: find_source_file(directory, name) for name in (X_TRAIN, Y_TRAIN, X_TEST, Y_TEST)}
    return {name: sha256_of(path) for name, path in paths.items() if path.is_file()}


def check_source(directory: Path) -> list[Problem]:
    """Return every problem of the source files in a directory. If the list is empty, the files can be loaded."""
    problems: list[Problem] = []
    for products, labels in ((X_TRAIN, Y_TRAIN), (X_TEST, Y_TEST)):
        try:
            _read_pair(directory, products, labels)
        except BadSourceError as error:
            problems.extend(error.problems)
    return sorted(problems, key=lambda problem: (problem.file, problem.line or 0))


def read_training_set(directory: Path, random_seed: int, holdout_percentage: int) -> TrainingSet:
    """Read X_train.csv and Y_train.csv, joined by their column of row numbers.

    Raises:
        BadSourceError: the two files have problems; the error lists all of them.
    """
    csv, table = _read_pair(directory, X_TRAIN, Y_TRAIN)
    productids = table["productid"].to_numpy()
    hashes = keys(productids, random_seed, Salt.SAMPLE)
    order = np.argsort(hashes)
    if (hashes[order][1:] == hashes[order][:-1]).any():  # two equal hashes, which is almost impossible
        order = np.lexsort((productids, hashes))
    return TrainingSet(csv, table, order, random_seed, holdout_percentage)


def read_test_set(directory: Path) -> pa.Table:
    """Return the rows of X_test.csv in file order, with the column image_path, and with prdtypecode if Y_test.csv exists.

    Raises:
        BadSourceError: the files have problems; the error lists all of them.
    """
    _, table = _read_pair(directory, X_TEST, Y_TEST, with_texts=True)
    return table.append_column("image_path", image_paths(table, "image_test"))


def image_paths(rows: pa.Table, folder: str) -> pa.Array:
    """Return the path of each product's image below DATA_PATH, such as images/image_train/image_12_product_34.jpg."""
    names = [
        f"images/{folder}/image_",
        rows["imageid"].cast(pa.string()),
        "_product_",
        rows["productid"].cast(pa.string()),
    ]
    return pc.binary_join_element_wise(*names, ".jpg", "")


def _read_pair(
    directory: Path, products_name: str, labels_name: str, *, with_texts: bool = False
) -> tuple[CsvFile, pa.Table]:
    """Return the products file (such as X_train.csv) and a table of its rows in file order.

    The table has the label of each row in the column prdtypecode. Y_test.csv may be missing: then the table has no labels.
    `with_texts` adds the columns designation and description.

    Raises:
        BadSourceError: the files have problems; the error lists all problems of both files.
    """
    problems: list[Problem] = []
    parts = []
    for name, columns, read in (
        (products_name, PRODUCT_COLUMNS, partial(_products, with_texts=with_texts)),
        (labels_name, LABEL_COLUMNS, _labels),
    ):
        try:
            path = find_source_file(directory, name)
            if name == Y_TEST and not path.is_file():
                continue
            file = CheckedFile(path, columns)
            parts.append((file, read(file)))
        except BadSourceError as error:
            problems.extend(error.problems)
        else:
            problems.extend(file.problems)
    if problems:
        raise BadSourceError(problems, directory)
    file, products = parts[0]
    if len(parts) == 1:
        return file.csv, products
    return file.csv, products.append_column("prdtypecode", _matched_labels(*parts[0], *parts[1]))


def _products(file: CheckedFile, *, with_texts: bool) -> pa.Table:
    blocks = []
    for block in file.csv.blocks():
        columns = {
            "index": file.integers(block, INDEX),
            "productid": file.integers(block, "productid"),
            "imageid": file.integers(block, "imageid"),
        }
        texts = {column: file.texts(block, column) for column in TEXT_COLUMNS}
        blocks.append(pa.table(columns | (texts if with_texts else {})))
    table = pa.concat_tables(blocks)
    file.unique(INDEX, table["index"])
    file.unique("productid", table["productid"])
    return table


def _labels(file: CheckedFile) -> pa.Table:
    blocks = [
        pa.table({"index": file.integers(block, INDEX), "prdtypecode": file.integers(block, "prdtypecode")})
        for block in file.csv.blocks()
    ]
    table = pa.concat_tables(blocks)
    file.unique(INDEX, table["index"])
    return table


def _matched_labels(
    products_file: CheckedFile, products: pa.Table, labels_file: CheckedFile, labels: pa.Table
) -> pa.ChunkedArray:
    """Return the label of each product as int32, in the order of the products.

    Raise BadSourceError if a product has no label, or a label has no product.
    """
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
        raise BadSourceError(problems, products_file.path.parent)
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
