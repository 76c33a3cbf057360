"""`rakuten predict` without --model: the champion that the server would serve, or a clear error."""

import csv
import io

import mlflow.sklearn
import pytest

from db.source.csv_file import open_csv
from db.source.training_set import TEXT_COLUMNS
from shared.errors import PipelineError, VerificationError


@pytest.fixture
def predict_with(server, rakuten_as, generated, monkeypatch):
    def logged_in(settings):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow leaves it behind
        rakuten = rakuten_as(server.conninfo(settings.postgres_db), settings)
        return lambda *options: rakuten("predict", generated / "X_test.csv", *options)

    return logged_in


@pytest.fixture
def predict(predict_with, settings):
    return predict_with(settings)


@pytest.fixture
def texts(generated):
    return open_csv(generated / "X_test.csv", TEXT_COLUMNS).whole().text.to_pandas()


def codes(done):
    assert done.exit_code == 0, done.exception
    return [int(row["prdtypecode"]) for row in csv.DictReader(io.StringIO(done.stdout))]


def test_the_predictions_are_those_of_the_champion_also_after_a_rollback(
    champion, predict, texts, logged_model, move_to
):
    for version in (2, 1):
        done = predict()
        assert codes(done) == mlflow.sklearn.load_model(str(logged_model(version))).predict(texts).tolist()
        said = f"{len(texts):,} products predicted by version {version} of rakuten_classifier (batch week_{version}), "
        assert done.stderr.startswith(said)
        if version == 2:
            move_to(1)


def test_before_the_first_champion_a_model_must_be_trained_or_named(
    champion, predict_with, another_database, settings, logged_model, monkeypatch
):
    refused = predict_with(another_database.settings)()
    assert isinstance(refused.exception, PipelineError)
    assert "there is no champion yet" in str(refused.exception)
    predict = predict_with(settings)
    by_champion = codes(predict())
    monkeypatch.setenv("POSTGRES_PORT", "1")  # a model that is named needs no PostgreSQL
    assert isinstance(predict().exception, PipelineError)
    for name in (logged_model(2), "models:/rakuten_classifier/2"):
        assert codes(predict("--model", name)) == by_champion


def test_a_champion_whose_files_were_changed_predicts_nothing(champion, predict, logged_model, tmp_path):
    path, out = logged_model(2) / "MLmodel", tmp_path / "predictions.csv"
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"\n")
        refused = predict("--out", out)
    finally:
        path.write_bytes(before)
    assert isinstance(refused.exception, VerificationError)
    assert not out.exists()
