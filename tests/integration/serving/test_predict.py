"""`rakuten predict` without --model: the champion that the server would serve, or a clear error."""

import csv
import io

import mlflow.sklearn
import pytest

from db.database import Role
from db.source.csv_file import open_csv
from db.source.training_set import TEXT_COLUMNS
from listeners.promotion.rollback import roll_back
from shared.errors import PipelineError, VerificationError


@pytest.fixture
def predict(server, settings, rakuten_as, generated):
    rakuten = rakuten_as(server.conninfo(settings.postgres_db), settings)
    return lambda *options: rakuten("predict", generated / "X_test.csv", *options)


@pytest.fixture
def texts(generated):
    return open_csv(generated / "X_test.csv", TEXT_COLUMNS).whole().text.to_pandas()


def codes(done):
    assert done.exit_code == 0, done.exception
    return [int(row["prdtypecode"]) for row in csv.DictReader(io.StringIO(done.stdout))]


def test_the_predictions_are_those_of_the_champion_also_after_a_rollback(
    train, predict, texts, logged_model, tracking, database
):
    train(2)
    for version in (2, 1):
        done = predict()
        assert codes(done) == mlflow.sklearn.load_model(str(logged_model(version))).predict(texts).tolist()
        said = f"{len(texts):,} products predicted by version {version} of rakuten_classifier (batch week_{version}), "
        assert done.stderr.startswith(said)
        if version == 2:
            roll_back(tracking, database.conninfo(Role.TRAINING), None, reason="test", by="somebody")


def test_before_the_first_champion_a_model_must_be_trained_or_named(
    predict, train, logged_model, monkeypatch
):
    refused = predict()
    assert isinstance(refused.exception, PipelineError)
    assert "there is no champion yet" in str(refused.exception)
    train(1)
    by_champion = codes(predict())
    monkeypatch.setenv("POSTGRES_PORT", "1")  # a model that is named needs no PostgreSQL
    assert isinstance(predict().exception, PipelineError)
    for name in (logged_model(1), "models:/rakuten_classifier/1"):
        assert codes(predict("--model", name)) == by_champion


def test_a_champion_whose_files_were_changed_predicts_nothing(predict, train, logged_model, tmp_path):
    train(1)
    path = logged_model(1) / "MLmodel"
    path.write_bytes(path.read_bytes() + b"\n")
    out = tmp_path / "predictions.csv"
    refused = predict("--out", out)
    assert isinstance(refused.exception, VerificationError)
    assert not out.exists()
