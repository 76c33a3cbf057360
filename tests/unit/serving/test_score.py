"""The predictions of a file are the model's own, bit for bit, and only a part of the file is ever in memory."""

import csv

import pytest

from db.source import csv_file
from db.source.products_file import open_products
from listeners.serving.score import CHUNK_ROWS, score


@pytest.fixture
def texts(products):
    """The products' texts as a CSV file can hold them: without null and NUL."""
    return products.fillna("").replace("\x00", "", regex=True)


@pytest.fixture
def file(texts, tmp_path):
    path = tmp_path / "X_test.csv"
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["", "designation", "description", "productid", "imageid"])
        writer.writerows(
            [100 + row, *both, row, row] for row, both in enumerate(texts.itertuples(index=False))
        )
    return path


@pytest.mark.parametrize("chunk_rows", [1, 2, 7, CHUNK_ROWS])
@pytest.mark.parametrize("block_bytes", [1, 300, 8 << 20])
def test_the_predictions_are_the_model_s_own_whatever_the_chunks(
    models, pipelines, file, texts, chunk_rows, block_bytes, monkeypatch
):
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", block_bytes)
    scored = list(score(models[1], open_products(file), chunk_rows))
    first = [guesses[0] for part in scored for guesses in part.guesses]
    assert [guess.prdtypecode for guess in first] == pipelines[1].predict(texts).tolist()
    assert [guess.probability for guess in first] == pipelines[1].predict_proba(texts).max(axis=1).tolist()
    indexes = [index for part in scored for index in part.indexes]
    assert indexes == [str(100 + row) for row in range(len(texts))]
    assert max(len(part.indexes) for part in scored) <= chunk_rows


def test_a_chunk_is_predicted_only_when_it_is_asked_for(models, file):
    class Counted:
        calls = 0

        def guesses(self, products):
            self.calls += 1
            return models[1].guesses(products)

    counted = Counted()
    parts = score(counted, open_products(file), 2)
    for number in (1, 2, 3):
        next(parts)
        assert counted.calls == number
