"""The server's guesses are the model's own predictions, bit for bit."""

import mlflow.sklearn
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from listeners.serving.model import TOP, ModelInfo, ServedModel
from shared.categories import category_name
from shared.errors import StageError


def test_the_first_guess_is_the_prediction_with_its_probability(models, pipelines, products):
    for version, served in models.items():
        codes, probabilities = (
            pipelines[version].predict(products),
            pipelines[version].predict_proba(products),
        )
        first = [guesses[0] for guesses in served.guesses(products)]
        assert [guess.prdtypecode for guess in first] == codes.tolist()
        assert [guess.probability for guess in first] == probabilities.max(axis=1).tolist()
        assert first[0].category == category_name(int(codes[0]))


def test_one_by_one_is_as_all_at_once(models, products):
    one_by_one = [models[1].guesses(products.iloc[[row]])[0] for row in range(len(products))]
    assert one_by_one == models[1].guesses(products)


def test_the_guesses_fall_in_probability_and_no_class_comes_twice(models, products):
    for guesses in models[1].guesses(products):
        assert len({guess.prdtypecode for guess in guesses}) == TOP
        assert [guess.probability for guess in guesses] == sorted(
            (guess.probability for guess in guesses), reverse=True
        )


def saved(folder, pipeline, **options):
    mlflow.sklearn.save_model(pipeline, folder, pip_requirements=["scikit-learn"], **options)
    return ServedModel(folder, ModelInfo(str(folder), None, None, ""))


def words_svm():
    svm = Pipeline([("tfidf", TfidfVectorizer()), ("svm", LinearSVC())])
    return svm.fit(["piscine eau", "livre roman"], [2583, 10])


def test_a_model_in_a_pickle_file_is_refused_and_one_in_skops_is_loaded(tmp_path):
    with pytest.raises(StageError, match="can run code when it is loaded"):
        saved(tmp_path / "pickle", words_svm(), serialization_format="pickle")
    assert saved(tmp_path / "skops", words_svm(), serialization_format="skops")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(StageError, match="holds no MLflow model"):
        ServedModel(tmp_path, ModelInfo("x", None, None, ""))
