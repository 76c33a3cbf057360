import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from listeners.snapshot.parquet import SCHEMA, verify_balanced, write_balanced
from shared.errors import VerificationError

IDS = np.array([11, 12, 13], np.int64)
LABELS = np.array([10, 10, 40], np.int32)
COPIES = np.array([1, 1, 2])
NOBODY = np.empty(0, np.int64)


def rows(first=0, end=3):
    return pa.table(
        {
            "productid": IDS,
            "designation": ["a", "b", "c"],
            "description": ['with "quotes", commas\nand lines', None, ""],
            "imageid": IDS,
            "image_path": ["x", "y", "z"],
            "prdtypecode": LABELS,
        },
        SCHEMA,
    ).slice(first, end - first)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.parquet"


def test_plain_pandas_reads_the_full_balanced_rows(path):
    write_balanced(path, [rows(0, 2), rows(2, 3)], COPIES)
    frame = pd.read_parquet(path)
    assert frame["productid"].tolist() == [11, 12, 13, 13]
    assert frame["description"].isna().tolist() == [False, True, False, False]
    assert verify_balanced(path, IDS, LABELS, NOBODY) == {10: 2, 40: 2}


def test_equal_rows_give_equal_bytes(path, tmp_path):
    again = tmp_path / "again.parquet"
    write_balanced(path, [rows()], COPIES)
    write_balanced(again, [rows()], COPIES)
    assert path.read_bytes() == again.read_bytes()


def test_copies_cost_almost_nothing(path, tmp_path):
    random = np.random.default_rng(0)
    texts = [random.bytes(50).hex() for _ in range(1000)]
    ids = random.choice(2**32, 1000, replace=False)
    columns = {
        "productid": ids,
        "designation": texts,
        "description": texts,
        "imageid": ids,
        "image_path": texts,
    }
    table = pa.table({**columns, "prdtypecode": np.zeros(1000, np.int32)}).cast(SCHEMA)
    write_balanced(path, [table], np.ones(1000, np.int64))
    write_balanced(tmp_path / "tenfold.parquet", [table], np.full(1000, 10))
    assert pq.read_metadata(tmp_path / "tenfold.parquet").num_rows == 10_000
    assert (tmp_path / "tenfold.parquet").stat().st_size < 1.1 * path.stat().st_size


@pytest.mark.parametrize("copies", [COPIES[:2], np.append(COPIES, 1)])
def test_other_rows_than_those_that_were_counted_are_refused(path, copies):
    with pytest.raises(VerificationError, match="rows were expected, but 3 or more were read"):
        write_balanced(path, [rows(0, 2), rows(2, 3)], copies)


@pytest.mark.parametrize(
    ("ids", "labels", "holdout", "reason"),
    [
        (IDS, LABELS, np.array([12]), "holdout"),
        (IDS[:2], LABELS[:2], NOBODY, "differs from its batch's training rows"),
        (np.array([11, 12, 14]), LABELS, NOBODY, "differs from its batch's training rows"),
        (IDS, LABELS[::-1], NOBODY, "differs from its batch's training rows"),
    ],
)
def test_verification_refuses_rows_that_do_not_belong(path, ids, labels, holdout, reason):
    write_balanced(path, [rows()], COPIES)
    with pytest.raises(VerificationError, match=reason):
        verify_balanced(path, ids, labels, holdout)


def test_verification_refuses_classes_of_different_size(path):
    write_balanced(path, [rows()], np.array([1, 1, 1]))
    with pytest.raises(
        VerificationError, match="not balanced: the smallest class has 1 rows, the largest has 2"
    ):
        verify_balanced(path, IDS, LABELS, NOBODY)
