import subprocess
import sys
import sysconfig
import textwrap

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC

from listeners.training.calibration import parts
from listeners.training.model import (
    Hyperparameters,
    fit,
    parameters_sha256,
)
from listeners.training.serialise import (
    PIP_REQUIREMENTS,
    SKOPS_TRUSTED_TYPES,
    input_example,
    signature,
    without_caches,
)
from listeners.training.text import text_cleaner

WORDS = {
    10: "roman livre poche édition auteur histoire",
    2583: "piscine pompe filtre liner bâche eau",
    2060: "coussin rideau décoration lampe tapis salon",
}


def products(n=240, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.choice(list(WORDS), n, p=[0.2, 0.5, 0.3])
    texts = [
        [" ".join(rng.choice([*WORDS[code].split(), "lot", "neuf"], 6)) for code in codes] for _ in range(2)
    ]
    return pd.DataFrame(
        {
            "productid": np.arange(n),
            "designation": np.where(rng.random(n) < 0.03, None, texts[0]),
            "description": np.where(
                rng.random(n) < 0.35, None, [f"<p>{text} l&#39;&eacute;t&eacute;</p>" for text in texts[1]]
            ),
            "imageid": np.arange(n),
            "image_path": "images/x.jpg",
            "prdtypecode": codes.astype(np.int64),
        }
    )


@pytest.fixture(scope="module")
def train():
    frame = products()
    sizes = frame["prdtypecode"].map(frame["prdtypecode"].value_counts()).to_numpy()
    return frame, frame["prdtypecode"].to_numpy(), np.ceil(sizes.max() / sizes).astype(np.int64)


@pytest.fixture(scope="module")
def pipeline(train):
    return fit(*train, seed=42).pipeline


@pytest.fixture(scope="module")
def holdout():
    return products(80, seed=1)


def test_predictions_are_the_int64_codes_of_a_frame_as_it_is(pipeline, holdout):
    predicted = pipeline.predict(holdout)
    assert predicted.dtype == np.int64
    assert np.mean(predicted == holdout["prdtypecode"]) > 0.9


def test_a_product_without_any_text_gets_a_code(pipeline):
    assert (
        pipeline.predict(pd.DataFrame({"designation": [None], "description": [float("nan")]})).item() in WORDS
    )


def test_fitting_twice_gives_the_same_bits(train, pipeline):
    again = fit(*train, seed=42).pipeline
    assert parameters_sha256(again) == parameters_sha256(pipeline)


def test_the_weighted_fit_is_the_fit_on_the_copies(train, holdout):
    frame, labels, multiplicities = train
    strict = Hyperparameters(svm_tol=1e-6, svm_max_iter=20_000)
    weighted = fit(frame, labels, multiplicities, seed=0, hyperparameters=strict).pipeline

    copies = frame.loc[frame.index.repeat(multiplicities)]
    cleaner = text_cleaner()
    texts, new = cleaner.transform(copies), cleaner.transform(holdout)
    common = {
        "lowercase": False,
        "min_df": strict.min_df,
        "max_features": strict.max_features,
        "sublinear_tf": True,
    }
    columns = {
        "designation": [
            TfidfVectorizer(ngram_range=(1, 2), **common),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **common),
        ],
        "description": [
            TfidfVectorizer(ngram_range=(1, 2), **common),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4), **common),
        ],
    }
    blocks = [(column, vectorizer) for column, vectorizers in columns.items() for vectorizer in vectorizers]
    features = np.hstack([vectorizer.fit_transform(texts[column]).toarray() for column, vectorizer in blocks])
    reference = LinearSVC(C=strict.svm_c, tol=1e-6, max_iter=20_000, random_state=0)
    reference.fit(features, copies["prdtypecode"])

    np.testing.assert_allclose(parts(weighted[-1])[0].coef_, reference.coef_, atol=1e-4)
    unseen = np.hstack([vectorizer.transform(new[column]).toarray() for column, vectorizer in blocks])
    np.testing.assert_array_equal(weighted.predict(holdout), reference.predict(unseen))


def test_arrays_of_different_length_are_refused(train):
    frame, labels, multiplicities = train
    with pytest.raises(ValueError, match="as many labels"):
        fit(frame, labels, multiplicities[:-1], seed=0)


def test_the_pipeline_holds_no_object_of_this_package(pipeline):
    assert isinstance(pipeline["features"], FeatureUnion)
    assert not [name for name in SKOPS_TRUSTED_TYPES if name.startswith(("listeners", "db", "shared"))]


def test_hyperparameters_are_flat_params():
    assert all(isinstance(value, str | int | float) for value in Hyperparameters().as_params().values())


@pytest.fixture(scope="module")
def champion_store(pipeline, tmp_path_factory):
    """The tracking URI of a fresh MLflow whose champion is `pipeline`."""
    store = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{store / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("training", artifact_location=(store / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        model = mlflow.sklearn.log_model(
            without_caches(pipeline),
            name="model",
            registered_model_name="rakuten_classifier",
            serialization_format="skops",
            skops_trusted_types=list(SKOPS_TRUSTED_TYPES),
            signature=signature(),
            input_example=input_example(),
            pip_requirements=list(PIP_REQUIREMENTS),
        )
    MlflowClient().set_registered_model_alias(
        "rakuten_classifier", "champion", model.registered_model_version
    )
    yield uri
    mlflow.set_tracking_uri(None)


def test_the_registered_champion_predicts_the_holdout_as_the_pipeline_does(champion_store, pipeline, holdout):
    mlflow.set_tracking_uri(champion_store)
    champion = mlflow.pyfunc.load_model("models:/rakuten_classifier@champion")
    np.testing.assert_array_equal(champion.predict(holdout), pipeline.predict(holdout))
    titles_only = holdout[["designation"]]
    np.testing.assert_array_equal(champion.predict(titles_only), pipeline.predict(titles_only))


def test_a_prediction_of_one_product_does_not_copy_the_coefficients(champion_store):
    """scipy copies the second factor of a product unless it is in C order: the transposed coefficients, here."""
    mlflow.set_tracking_uri(champion_store)
    loaded = mlflow.sklearn.load_model("models:/rakuten_classifier@champion")
    assert parts(loaded[-1])[0].coef_.T.flags.c_contiguous


def test_the_champion_loads_where_this_package_is_not_installed(champion_store, pipeline, holdout, tmp_path):
    holdout.to_parquet(tmp_path / "holdout.parquet")
    script = textwrap.dedent(f"""
        import sys
        sys.path += {[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]!r}  # without its .pth files
        import importlib.util, mlflow, pandas
        assert not any(importlib.util.find_spec(name) for name in ("listeners", "shared", "db"))
        mlflow.set_tracking_uri({champion_store!r})
        champion = mlflow.pyfunc.load_model("models:/rakuten_classifier@champion")
        print(*champion.predict(pandas.read_parquet("holdout.parquet")))
    """)
    command = [sys.executable, "-I", "-S", "-c", script]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == [str(code) for code in pipeline.predict(holdout)]


def test_a_row_weighs_less_only_beyond_the_size_of_the_challenge():
    defaults = Hyperparameters()
    assert defaults.c_for(1) == defaults.c_for(300_000) == defaults.svm_c
    assert defaults.c_for(1_200_000) == pytest.approx(defaults.svm_c / 4)
