"""The weighted fit is the fit on the copies."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from listeners.training.features import (
    TfidfBlock,
    distinct_products,
    fit_features,
    fit_tfidf,
    merge_equal_columns,
)

# Letters that change length or class under case folding and NFKD, digits of other scripts, marks, spaces that
# str.split and re disagree about in other languages, astral characters, and what sorts around the space.
ODD = "aAbzZß\u0130\u0131éÉñ\u0301\u0345\u1e9e\ufb03ª²½٣Ⅷ漢字ー😀\U0001d7d8_-'.\t\n\r \u00a0\u2028\u200b\u3000\x1c\x1f~!1\u0e33\ud800"
TEXTS = st.lists(
    st.text(st.sampled_from(ODD), max_size=14)
    | st.text(st.characters(exclude_characters="\x00"), max_size=10)
    | st.sampled_from(["le chat", "le chat le chien", ""]),
    min_size=1,
    max_size=8,
)
VECTORIZERS = st.builds(
    lambda kind, min_df, max_features, sublinear: {
        **kind,
        "min_df": min_df,
        "max_features": max_features,
        "sublinear_tf": sublinear,
    },
    st.sampled_from(
        [
            {"ngram_range": (1, 1)},
            {"ngram_range": (1, 2)},
            {"ngram_range": (1, 2), "lowercase": False, "token_pattern": r"(?u)\b\w+\b"},
            {"ngram_range": (1, 2), "strip_accents": "unicode"},
            {"analyzer": "char_wb", "ngram_range": (2, 5)},
            {"analyzer": "char_wb", "ngram_range": (1, 3), "lowercase": False},
        ]
    ),
    st.integers(1, 4),
    st.none() | st.integers(1, 12),
    st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(texts=TEXTS, options=VECTORIZERS, data=st.data())
def test_a_weighted_fit_equals_sklearns_fit_on_the_copies_bit_for_bit(texts, options, data):
    multiplicities = np.array(
        data.draw(st.lists(st.integers(1, 4), min_size=len(texts), max_size=len(texts))), np.int64
    )
    copies = [text for text, n in zip(texts, multiplicities, strict=True) for _ in range(n)]
    weighted, reference = TfidfVectorizer(**options), TfidfVectorizer(**options)
    try:
        reference.fit(copies)
    except ValueError:
        with pytest.raises(ValueError, match="no term occurs"):
            fit_tfidf(weighted, texts, multiplicities)
        return

    matrix = fit_tfidf(weighted, texts, multiplicities)

    assert weighted.vocabulary_ == reference.vocabulary_
    assert weighted.idf_.tobytes() == reference.idf_.tobytes()
    expected = reference.transform(texts)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(matrix, part), getattr(expected, part))
    assert (weighted.transform(texts) != expected).nnz == 0


def test_ties_at_max_features_fall_as_in_sklearn():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 900, 12)) for _ in range(400)]
    multiplicities = rng.integers(1, 5, len(texts))
    options = {"ngram_range": (1, 2), "min_df": 2, "max_features": 1500}
    weighted, reference = TfidfVectorizer(**options), TfidfVectorizer(**options)

    fit_tfidf(weighted, texts, multiplicities)
    reference.fit(np.repeat(np.array(texts, object), multiplicities))

    assert weighted.vocabulary_ == reference.vocabulary_
    assert list(weighted.get_feature_names_out()) == list(reference.get_feature_names_out())


def test_the_weights_matter():
    weighted, unweighted = TfidfVectorizer(), TfidfVectorizer()
    fit_tfidf(weighted, ["rare", "common"], np.array([1, 9]))
    unweighted.fit(["rare", "common"])
    assert not np.array_equal(weighted.idf_, unweighted.idf_)


@pytest.mark.parametrize("options", [{"analyzer": "char"}, {"ngram_range": (2, 2)}, {"ngram_range": (1, 3)}])
def test_an_analyzer_without_an_exact_fast_count_is_refused(options):
    with pytest.raises(ValueError, match="not supported"):
        fit_tfidf(TfidfVectorizer(**options), ["le chat"], np.array([1]))


def test_the_union_transforms_new_rows_as_it_did_the_fitted_ones():
    texts = pd.DataFrame({"designation": ["le chat noir", "le chien"], "description": ["", "noir et blanc"]})
    blocks = [
        TfidfBlock("words", "designation", TfidfVectorizer()),
        TfidfBlock("chars", "designation", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3))),
        TfidfBlock("text", "description", TfidfVectorizer(ngram_range=(1, 2))),
    ]

    union, features = fit_features(texts, np.array([3, 1]), blocks)

    np.testing.assert_array_equal(union.transform(texts).toarray(), features.toarray())


def test_distinct_products_and_their_copies_do_not_depend_on_the_order_of_rows():
    dataset = pa.table({"productid": [7, 3, 7, 7, 9], "designation": ["b", "a", "b", "b", "c"]})

    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        rows, multiplicities = distinct_products(dataset.take(order))
        assert rows.to_pydict() == {"productid": [3, 7, 9], "designation": ["a", "b", "c"]}
        assert multiplicities.tolist() == [1, 3, 1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_merged_columns_keep_the_inner_products_of_rows_and_can_be_undone(seed):
    random = np.random.default_rng(seed)
    columns = sparse.random_array((12, 6), density=0.3, rng=random, format="csr")
    features = columns[:, random.integers(0, 6, 20)]

    merged, column, scale = merge_equal_columns(features)

    assert merged.shape[1] <= 6
    rows = features.toarray()
    np.testing.assert_allclose((merged @ merged.T).toarray(), rows @ rows.T, atol=1e-12)
    np.testing.assert_allclose(merged.toarray()[:, column] * scale, rows, atol=1e-12)
