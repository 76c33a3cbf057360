"""The features of both engines are the same, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from spark_products import distinct_products, products, write_dataset

from listeners.training.calibration import text_folds
from listeners.training.features import fit_features, join_blocks
from listeners.training.model import DEFAULTS, tfidf_blocks
from listeners.training.text import text_cleaner

pytest.importorskip("pyspark")

from listeners.training.spark.features import (
    as_matrix,
    clean_texts,
    find_vocabulary,
    vectorise,
)

SEED = 42


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("dataset") / "train.parquet"


@pytest.fixture(scope="module")
def data(path):
    return write_dataset(path, products())


@pytest.fixture(scope="module")
def texts(data):
    return text_cleaner().transform(data.products)


@pytest.fixture(scope="module")
def cleaned(spark, path, data):
    frame = clean_texts(distinct_products(spark.read.parquet(str(path))), seed=SEED).persist()
    yield frame
    frame.unpersist()


def collect(frame):
    return frame.orderBy("productid").toArrow()


def test_each_product_is_cleaned_once_with_its_copies_and_its_fold(cleaned, data, texts):
    table = collect(cleaned)
    assert table["productid"].to_pylist() == data.productids.tolist()
    assert table["prdtypecode"].to_pylist() == data.labels.tolist()
    assert table["copies"].to_pylist() == data.multiplicities.tolist()
    assert table["fold"].to_pylist() == text_folds(data.products, seed=SEED).tolist()
    for name in texts:
        assert table[name].to_pylist() == texts[name].tolist()


@pytest.mark.parametrize("limit", [80_000, 150, 20, 1])
def test_vocabulary_idf_and_features_equal_the_local_engines_with_ties_at_the_limit(
    spark, cleaned, data, texts, limit
):
    chosen = replace(DEFAULTS, max_features=limit)
    union, expected = fit_features(texts, data.multiplicities, tfidf_blocks(chosen))

    vocabulary = find_vocabulary(cleaned, tfidf_blocks(chosen), copies=int(data.multiplicities.sum()))

    ours = [reader[-1] for _, reader in join_blocks(vocabulary.blocks).transformer_list]
    for vectorizer, (_, reader) in zip(ours, union.transformer_list, strict=True):
        assert vectorizer.vocabulary.tolist() == reader[-1].vocabulary.tolist()
        assert vectorizer.idf_.tobytes() == reader[-1].idf_.tobytes()
    shared = spark.sparkContext.broadcast(vocabulary)
    vectors = collect(vectorise(cleaned, shared))["features"].combine_chunks()
    found = as_matrix(vectors, len(vocabulary.first))
    merged = vocabulary.merged(expected)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, part), getattr(merged, part))
    # Merging keeps the inner products of rows and the scores, so it loses nothing.
    np.testing.assert_allclose((found @ found.T).toarray(), (expected @ expected.T).toarray(), atol=1e-12)
    coefficients = np.random.default_rng(0).standard_normal((3, found.shape[1]))
    np.testing.assert_allclose(
        found @ coefficients.T, expected @ vocabulary.unmerged(coefficients).T, atol=1e-12
    )


def test_the_limit_cuts_through_terms_that_are_equally_frequent(data, texts):
    """Else the test above would not prove that ties fall alike."""
    [block, *_] = tfidf_blocks(replace(DEFAULTS, max_features=None))
    fit_features(texts, data.multiplicities, [block])
    counted = block.vectorizer.build_analyzer()
    frequency = {}
    for text, copies in zip(texts[block.column], data.multiplicities.tolist(), strict=True):
        for term in counted(text):
            frequency[term] = frequency.get(term, 0) + copies
    ordered = sorted(frequency.values(), reverse=True)
    assert any(ordered[limit - 1] == ordered[limit] for limit in (150, 20, 1))


def test_the_document_frequencies_without_a_fold_are_those_of_the_other_products(cleaned, data, texts):
    vocabulary = find_vocabulary(cleaned, tfidf_blocks(), copies=int(data.multiplicities.sum()))
    _, matrix = fit_features(texts, data.multiplicities, tfidf_blocks())
    folds = text_folds(data.products, seed=SEED)
    ends = np.cumsum([len(block.vectorizer.idf_) for block in vocabulary.blocks])
    for fold in range(3):
        copies = np.where(folds == fold, 0, data.multiplicities)
        frequent = (matrix != 0).astype(np.int64).T @ copies >= 2
        blocks = np.searchsorted(ends, np.arange(matrix.shape[1]), side="right")
        expected = (np.arange(4)[:, None] == blocks) & frequent
        np.testing.assert_array_equal(vocabulary.shares(fold, 2), expected[:, vocabulary.first])
        assert 0 < expected.sum() < expected.shape[1]


def test_terms_that_are_in_the_same_products_equally_often_have_one_column(cleaned, data, texts):
    vocabulary = find_vocabulary(cleaned, tfidf_blocks(), copies=int(data.multiplicities.sum()))
    _, matrix = fit_features(texts, data.multiplicities, tfidf_blocks())
    projections = matrix.T @ np.random.default_rng(0).standard_normal(matrix.shape[0])
    sizes = [len(block.vectorizer.idf_) for block in vocabulary.blocks]
    wanted = np.column_stack([np.repeat(np.arange(4), sizes), projections])
    np.testing.assert_array_equal(wanted[vocabulary.first][vocabulary.column], wanted)
    assert len(vocabulary.first) == len(np.unique(wanted, axis=0)) < len(wanted)


def test_the_partitions_of_the_dataset_change_nothing(spark, path, cleaned):
    spread = spark.read.parquet(str(path)).repartition(7, "designation")
    again = clean_texts(distinct_products(spread), seed=SEED)
    assert again.rdd.glom().collect() == cleaned.rdd.glom().collect()


def test_a_block_without_a_frequent_term_is_refused(cleaned):
    with pytest.raises(ValueError, match="no term occurs in 100000 documents"):
        find_vocabulary(cleaned, tfidf_blocks(replace(DEFAULTS, min_df=100_000)), copies=600)
