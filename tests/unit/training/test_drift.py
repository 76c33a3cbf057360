from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from listeners.training.dataset import TrainingData
from listeners.training.drift import count_words, drift_document, earlier_words, read_sample, unknown_shares

TITLES = ["Table basse", "Table haute", "Chaise haute", "Table inconnue inouïe", "!"]


def test_a_word_is_unknown_if_no_other_title_of_an_earlier_week_has_it():
    earlier = [title for title in TITLES if title != TITLES[3]]
    words = count_words(earlier)
    assert unknown_shares([TITLES[3]], words, own=0).tolist() == [pytest.approx(2 / 3)]
    # `basse` and `chaise` are in one earlier title only, their own; a title without words has none that is unknown
    assert unknown_shares(earlier, words, own=1).tolist() == [0.5, 0, 0.5, 0]


def test_new_products_do_not_make_each_others_words_known():
    data = TrainingData(
        pd.DataFrame({"designation": [*TITLES, "Table inconnue"]}), np.arange(6), np.zeros(6), np.ones(6)
    )
    words = earlier_words({"new": np.array([3, 5])}, data)
    shares = unknown_shares([TITLES[3], "Table inconnue"], words, own=0)
    assert shares.tolist() == [pytest.approx(2 / 3), 0.5]
    assert count_words(TITLES, {"table"}) == {"table": 3}


@pytest.fixture
def sample(tmp_path):
    def write(**groups):
        path = tmp_path / "drift_sample.parquet"
        names = [name for name, ids in groups.items() for _ in ids]
        productids = pa.array([productid for ids in groups.values() for productid in ids], pa.int64())
        pq.write_table(pa.table({"group": pa.array(names, pa.string()), "productid": productids}), path)
        return read_sample(path)

    return write


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    words = [f"mot{number}" for number in range(50)]
    titles = [" ".join(rng.choice(words, 6)) for _ in range(600)]
    return TrainingData(
        pd.DataFrame({"designation": titles, "description": ""}),
        np.arange(600, dtype=np.int64),
        np.zeros(600, np.int64),
        np.ones(600, np.int64),
    )


def document_of(sample, data, model):
    return drift_document(sample, data, model, earlier_words(sample, data), seed=1)


def model_with(confidence):
    probabilities = np.column_stack([confidence, 1 - confidence])
    return SimpleNamespace(out_of_fold=probabilities, classes=np.array([10, 40]))


def test_the_first_week_has_nothing_to_compare_with(sample, data):
    document = document_of(sample(new=range(600)), data, model_with(np.full(600, 0.9)))
    assert document == {"histograms": {}, "drift": []}
    document = document_of(sample(), data, model_with(np.full(600, 0.9)))  # of a correction
    assert document["drift"] == []


def test_a_week_whose_products_the_model_finds_hard_is_an_alarm_and_one_of_other_products_is_none(
    sample, data
):
    confidence = np.random.default_rng(1).uniform(0.5, 1, 600)
    path = sample(new=range(400, 600), first=range(400), before=range(300, 400))
    usual = document_of(path, data, model_with(confidence))["drift"]
    assert {entry["feature"] for entry in usual} == {"unknown words", "confidence"}
    assert not any(entry["drifted"] for entry in usual)
    confidence[400:] -= 0.15
    hard = document_of(path, data, model_with(np.maximum(confidence, 0.5)))["drift"]
    assert {(e["feature"], e["reference"]) for e in hard if e["drifted"]} == {
        ("confidence", "first"),
        ("confidence", "before"),
    }


def test_a_week_of_other_words_is_an_alarm(sample, data):
    data.products.loc[400:, "designation"] = [f"nouveau{number} mot1 mot2" for number in range(200)]
    document = document_of(sample(new=range(400, 600), first=range(400)), data, model_with(np.full(600, 0.9)))
    assert [entry["feature"] for entry in document["drift"] if entry["drifted"]] == ["unknown words"]


def test_a_model_without_out_of_fold_probabilities_and_a_product_that_is_gone_are_left_out(sample, data):
    model = SimpleNamespace(out_of_fold=None, classes=np.array([10, 40]))
    document = document_of(sample(new=[1, 2, 9999], first=[3, -5]), data, model)
    [entry] = document["drift"]
    assert (entry["feature"], entry["rows"], entry["reference_rows"]) == ("unknown words", 2, 1)
