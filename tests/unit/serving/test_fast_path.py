"""The fast path gives the model's own probabilities, bit for bit, and no other model gets one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from listeners.serving.fast_path import fast_probabilities
from listeners.training import model
from listeners.training.serialise import without_caches
from listeners.training.text import TEXT_COLUMNS

EXAMPLES = pd.DataFrame([("Livre", None), (None, "piscine eau")], columns=list(TEXT_COLUMNS))
WORDS = st.sampled_from(
    [
        "roman poche livre",
        "Piscine gonflable",
        "peluche jouet",
        "<b>LIVRE</b> ",
        "&amp;eacute;",
        "™ ",
        "livre" * 10,
    ]
)
TEXT = st.none() | st.lists(WORDS | st.text(max_size=30), max_size=8).map("".join)


@pytest.fixture(scope="module")
def pipeline(pipelines):
    return pipelines[1]


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_the_probabilities_are_the_model_s_own(pipeline, texts):
    products = pd.DataFrame(texts, columns=list(TEXT_COLUMNS))
    fast = fast_probabilities(pipeline, EXAMPLES)
    assert np.array_equal(fast(products), pipeline.predict_proba(products))


def with_step(pipeline, name, step):
    return Pipeline([(other, step if other == name else its) for other, its in pipeline.steps])


def with_weights(pipeline):
    union = FeatureUnion(pipeline["features"].transformer_list, transformer_weights={"title_words": 2.0})
    return with_step(pipeline, "features", union)


def with_another_cleaner(pipeline):
    steps = [*pipeline["clean"].steps, ("again", FunctionTransformer(pd.DataFrame))]
    return with_step(pipeline, "clean", Pipeline(steps))


def with_another_calibration(pipeline):
    calibrated = pipeline["classifier"]
    other = CalibratedClassifierCV(calibrated.estimator, method="sigmoid")
    features = pipeline[:-1].transform(pd.concat([EXAMPLES] * 15))
    return with_step(pipeline, "classifier", other.fit(features, np.resize(calibrated.classes_, 30)))


def of_two_classes(_pipeline):
    labels, copies = np.array([10, 2583] * 3), np.ones(6, np.int64)
    return model.fit(
        pd.concat([EXAMPLES] * 3, ignore_index=True), labels, copies, seed=1, processes=1
    ).pipeline


@pytest.mark.parametrize(
    "change", [with_weights, with_another_cleaner, with_another_calibration, of_two_classes]
)
def test_another_model_has_no_fast_path(pipeline, change):
    assert fast_probabilities(change(pipeline), EXAMPLES) is None


def test_a_model_whose_probabilities_differ_has_no_fast_path(pipeline):
    """A cleaner with the steps of ours, one of which does something else."""
    changed = without_caches(pipeline)
    changed["clean"].steps[-1] = ("as_frame", FunctionTransformer(reverse))
    assert fast_probabilities(changed, EXAMPLES) is None


def reverse(texts):
    return pd.DataFrame(texts, columns=list(reversed(TEXT_COLUMNS)))
