"""A model that Spark has fitted is a scikit-learn model that is as good as the local engine's."""

import subprocess
import sys
import textwrap
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from spark_products import distinct_products, products, write_dataset

from listeners.promotion.compare import compare
from listeners.serving.fast_path import fast_probabilities
from listeners.training import calibration, model
from listeners.training.features import MergedFeatures
from listeners.training.suspects import suspects_frame
from listeners.training.trainers import FittedModel

pytest.importorskip("pyspark")

from listeners.training.spark.calibration import (
    FoldClassifier,
    collect_probabilities,
    inverse_temperature,
    score_fold,
)
from listeners.training.spark.fit import Solver, fit
from listeners.training.spark.training_data import collect_training_data

SEED = 42
NO_SAMPLE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("dataset") / "train.parquet"


@pytest.fixture(scope="module")
def data(path):
    return write_dataset(path, products())


@pytest.fixture(scope="module")
def fitted(spark, path, data):
    steps = []
    found = fit(distinct_products(spark.read.parquet(str(path))), seed=SEED, progress=steps.append)
    assert steps[0] == "cleaning the texts"
    assert steps[-1] == "calibrating the probabilities"
    return found


@pytest.fixture(scope="module")
def local(data):
    return model.fit(data.products, data.labels, data.multiplicities, seed=SEED, processes=1)


def test_it_is_not_significantly_worse_than_the_local_engines_model(fitted, local):
    holdout = products(150, seed=1)
    truth = holdout["prdtypecode"].to_numpy().astype(np.int64)
    compared = compare(truth, fitted.predict(holdout), local.pipeline.predict(holdout), seed=SEED)
    assert compared.promote, compared.reason
    assert np.mean(fitted.predict(holdout) == truth) > 0.9


def test_the_out_of_fold_probabilities_are_those_of_the_products_by_productid(fitted, local, data):
    assert fitted.out_of_fold.shape == local.out_of_fold.shape
    np.testing.assert_allclose(fitted.out_of_fold.sum(axis=1), 1)
    guesses = fitted.classes[fitted.out_of_fold.argmax(axis=1)]
    assert (
        np.mean(guesses == data.labels)
        > np.mean(local.out_of_fold.argmax(axis=1) == np.searchsorted(fitted.classes, data.labels)) - 0.05
    )


def test_the_training_stage_can_use_it_like_a_model_of_a_trainer(fitted):
    model: FittedModel = fitted
    assert model.digest is None
    assert 0 < model.tolerance < 0.05
    assert model.metrics["converged"] == 1
    assert all(isinstance(value, str | int | float) for value in model.hyperparameters.values())
    assert not [name for name in model.hyperparameters if name.startswith("svm_")]
    assert model.classes.tolist() == [10, 2060, 2583]


def test_the_driver_collects_what_the_suspects_need(spark, path, data, fitted):
    mixed_up = np.concatenate([fitted.out_of_fold[49::-1], fitted.out_of_fold[50:]])
    doubted = replace(fitted, out_of_fold=mixed_up)
    collected = collect_training_data(distinct_products(spark.read.parquet(str(path))), doubted, NO_SAMPLE)
    for name in ("productids", "labels", "multiplicities"):
        assert getattr(collected, name).tolist() == getattr(data, name).tolist()
    found, expected = (
        suspects_frame(each, doubted.out_of_fold, doubted.classes) for each in (collected, data)
    )
    assert len(found)
    assert found.to_csv() == expected.to_csv()
    assert collected.products["designation"].notna().sum() <= len(found)


def test_two_fits_agree_within_the_tolerance(spark, path, fitted):
    again = fit(distinct_products(spark.read.parquet(str(path)).repartition(5)), seed=SEED)
    new, old = (calibration.parts(found.pipeline[-1]) for found in (again, fitted))
    np.testing.assert_allclose(new[0].coef_, old[0].coef_, rtol=0, atol=1e-6)
    assert new[1] == pytest.approx(old[1], rel=1e-4)


def test_plain_mlflow_loads_it_where_java_and_pyspark_are_missing(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    holdout = products(30, seed=1)[["designation", "description"]]
    holdout.to_parquet(tmp_path / "holdout.parquet")
    script = """
        import sys
        for name in ("pyspark", "py4j", "listeners", "db", "shared"):
            sys.modules[name] = None
        import mlflow, pandas as pd
        loaded = mlflow.pyfunc.load_model(sys.argv[1] + "/model")
        print(*loaded.predict(pd.read_parquet(sys.argv[1] + "/holdout.parquet")))
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script), str(tmp_path)],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert [int(code) for code in done.stdout.split()] == fitted.predict(holdout).tolist()


def test_the_model_server_answers_with_it_on_its_fast_path(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = mlflow.sklearn.load_model(str(tmp_path / "model"))
    holdout = products(30, seed=1)
    fast = fast_probabilities(loaded, holdout)
    assert fast is not None
    assert np.array_equal(fast(holdout), fitted.predict_proba(holdout))


def frame_of_scores(spark, scores, places):
    rows = [
        (number, int(place), [float(score) for score in row])
        for number, (place, row) in enumerate(zip(places, scores, strict=True))
    ]
    return spark.createDataFrame(rows, "productid bigint, place int, scores array<double>")


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_temperature_is_scikit_learns(spark, n_classes):
    random = np.random.default_rng(0)
    places = random.integers(0, n_classes, 60)
    scores = random.normal(size=(60, n_classes)) + 1.5 * np.eye(n_classes)[places]
    classifier = LogisticRegression()
    classifier.classes_ = np.arange(n_classes)
    classifier.n_features_in_ = 3
    expected = calibration.calibrate(classifier, scores, places)

    frame = frame_of_scores(spark, scores, places)
    found = inverse_temperature(frame)

    assert found == pytest.approx(calibration.parts(expected)[1], rel=1e-6)
    assert calibration.parts(calibration.with_temperature(classifier, found))[1] == found
    np.testing.assert_allclose(collect_probabilities(frame, found), softmax(found * scores, axis=1))


def test_scores_that_are_always_right_or_always_wrong_have_a_temperature(spark):
    places = [0, 1]
    assert inverse_temperature(frame_of_scores(spark, np.eye(2), places)) == pytest.approx(np.exp(10))
    assert inverse_temperature(frame_of_scores(spark, -np.eye(2), places)) == pytest.approx(np.exp(-10))


def test_the_scores_of_a_fold_are_the_local_engines(spark, data):
    union, matrix = model.vectorise(data.products, data.multiplicities)
    folds = calibration.text_folds(data.products, seed=SEED)
    inside = folds == 1
    classifier = model.linear_svc(0).fit(matrix[~inside], data.labels[~inside])
    identity = MergedFeatures(matrix, np.arange(matrix.shape[1]), np.ones(matrix.shape[1]))
    expected = calibration.out_of_fold_scores(
        identity,
        model.block_sizes(union),
        folds,
        data.labels,
        data.multiplicities,
        classifiers={1: classifier},
        min_df=2,
    )[inside]

    frequent = (matrix[~inside] != 0).astype(np.int64).T @ data.multiplicities[~inside] >= 2
    sizes = model.block_sizes(union)
    shares = np.repeat(np.eye(len(sizes)), sizes, axis=1) * frequent
    assert not frequent.all()
    scorer = FoldClassifier(classifier, shares, np.unique(data.labels))
    shared = spark.sparkContext.broadcast(scorer)
    rows = vectors_of(spark, data, matrix, inside)
    found = score_fold(rows, shared).orderBy("productid").collect()

    np.testing.assert_allclose([row["scores"] for row in found], expected, atol=1e-12)
    assert [row["place"] for row in found] == np.searchsorted(scorer.classes, data.labels[inside]).tolist()


def vectors_of(spark, data, matrix, rows):
    from pyspark.ml.linalg import SparseVector  # noqa: PLC0415

    part = matrix[rows]
    made = [
        (
            int(productid),
            int(code),
            SparseVector(part.shape[1], part.indices[start:end].tolist(), part.data[start:end].tolist()),
        )
        for productid, code, start, end in zip(
            data.productids[rows], data.labels[rows], part.indptr[:-1], part.indptr[1:], strict=True
        )
    ]
    return spark.createDataFrame(made, ["productid", "prdtypecode", "features"])


def test_two_classes_have_one_score_and_a_class_of_one_product_is_no_problem(spark, tmp_path):
    frame = products(40).query("prdtypecode != 10")
    lonely = pd.DataFrame(
        {**frame.iloc[0].to_dict(), "productid": -99, "prdtypecode": 7, "designation": "unique"}, index=[0]
    )
    quick = Solver(logistic_max_iter=5)

    write_dataset(tmp_path / "two.parquet", frame)
    two = fit(distinct_products(spark.read.parquet(str(tmp_path / "two.parquet"))), seed=SEED, solver=quick)
    assert two.predict_proba(frame).shape == (len(frame), 2)
    assert np.mean(two.predict(frame) == frame["prdtypecode"]) > 0.9
    assert two.metrics["converged"] == 0

    write_dataset(tmp_path / "three.parquet", pd.concat([frame, lonely.astype({"prdtypecode": np.int32})]))
    three = fit(
        distinct_products(spark.read.parquet(str(tmp_path / "three.parquet"))), seed=SEED, solver=quick
    )
    assert three.classes.tolist() == [7, 2060, 2583]
    assert three.out_of_fold[0, 0] <= 1 / 3  # no other fold has this class


def test_one_class_is_refused(spark, tmp_path):
    write_dataset(tmp_path / "one.parquet", products(20).query("prdtypecode == 2583"))
    with pytest.raises(ValueError, match="fewer than two classes"):
        fit(distinct_products(spark.read.parquet(str(tmp_path / "one.parquet"))), seed=SEED)
