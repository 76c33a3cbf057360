import csv
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.svm import LinearSVC

from db.source.synthetic import generate
from db.source.synthetic.draws import Draws
from db.source.synthetic.generate import class_counts
from shared.categories import CATEGORIES
from shared.errors import BadInputError

ROWS, TEST_ROWS = 4_000, 651
CSV_FILES = ("X_train.csv", "Y_train.csv", "X_test.csv", "Y_test.csv")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    assert generate(folder, ROWS) == TEST_ROWS
    return folder


@pytest.fixture(scope="module")
def products(data) -> pd.DataFrame:
    return pd.read_csv(data / "X_train.csv", index_col=0)


@pytest.fixture(scope="module")
def labels(data) -> pd.Series:
    return pd.read_csv(data / "Y_train.csv", index_col=0)["prdtypecode"]


def csv_bytes(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in CSV_FILES]


def test_the_files_have_the_challenges_header_and_line_ends(data):
    assert (data / "X_train.csv").read_bytes().startswith(b",designation,description,productid,imageid\n0,")
    assert (data / "Y_train.csv").read_bytes().startswith(b",prdtypecode\n0,")
    for path in (data / name for name in CSV_FILES):
        content = path.read_bytes()
        assert content.endswith(b"\n")
        assert b"\r" not in content
        content.decode("utf-8")


@pytest.mark.parametrize("name", CSV_FILES)
def test_pandas_and_the_csv_module_read_the_same_values(data, name):
    path = data / name
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    frame = pd.read_csv(path, dtype=str).fillna("")
    assert frame.to_numpy().tolist() == rows
    assert header[1:] == list(frame.columns[1:])


def test_the_test_rows_go_on_where_the_training_rows_end(data, products, labels):
    test = pd.read_csv(data / "X_test.csv", index_col=0)
    assert products.index.tolist() == labels.index.tolist() == list(range(ROWS))
    assert test.index.tolist() == list(range(ROWS, ROWS + TEST_ROWS))
    assert pd.read_csv(data / "Y_test.csv", index_col=0).index.tolist() == test.index.tolist()


def test_classes_have_the_challenges_proportions(labels):
    total = sum(category.training_rows for category in CATEGORIES.values())
    counts = labels.value_counts()
    for code, category in CATEGORIES.items():
        assert abs(counts[code] - ROWS * category.training_rows / total) < 1


def test_as_many_rows_as_the_challenge_have_exactly_its_class_counts():
    expected = [CATEGORIES[code].training_rows for code in sorted(CATEGORIES)]
    assert class_counts(sum(expected), at_least=2).tolist() == expected


@pytest.mark.parametrize(("rows", "fewest"), [(27, 1), (53, 1), (54, 2), (400, 2)])
def test_every_class_has_a_row_and_two_where_there_is_room(tmp_path, rows, fewest):
    generate(tmp_path / "small", rows, test_rows=0)
    counts = pd.read_csv(tmp_path / "small" / "Y_train.csv")["prdtypecode"].value_counts()
    assert len(counts) == 27
    assert counts.min() >= fewest
    assert counts.sum() == rows


def test_classes_are_shuffled_through_the_file(labels):
    assert labels.head(200).nunique() > 20
    assert (labels.diff() == 0).mean() < 0.1


def test_about_a_third_of_the_descriptions_are_missing_and_depend_on_the_class(products, labels):
    missing = products["description"].isna()
    assert 0.32 < missing.mean() < 0.38
    assert missing[labels == 2403].mean() > 0.9
    assert missing[labels == 1560].mean() < 0.1


def test_ids_are_unique_across_both_parts_and_not_sorted(data, products):
    both = pd.concat([products, pd.read_csv(data / "X_test.csv", index_col=0)])
    for column, low, high in [("productid", 1e5, 4.3e9), ("imageid", 1e9, 1.33e9)]:
        assert both[column].is_unique
        assert both[column].between(low, high).all()
        assert not both[column].is_monotonic_increasing


def test_lengths_are_those_of_a_marketplace(products):
    titles, descriptions = products["designation"].str.len(), products["description"].dropna().str.len()
    assert titles.between(11, 250).all()
    assert 40 < titles.median() < 80
    assert 250 < descriptions.median() < 700
    assert 5_000 < descriptions.max() <= 12_000


def test_some_titles_and_descriptions_are_repeated(products):
    descriptions = products["description"].dropna()
    assert 0.015 < products["designation"].duplicated().mean() < 0.05
    assert 0.10 < descriptions.duplicated().mean() < 0.18


@pytest.mark.parametrize(
    "pattern",
    [
        "\n",
        ",",
        '"',
        r"<br />",
        r"<ul><li>",
        r"&amp;",
        r"&#39;",
        r"&eacute;",
        r"&nbsp;",
        "é",
        "ß",
        "\U0001f381",
    ],
)
def test_descriptions_and_titles_hold_what_makes_csv_hard(products, pattern):
    texts = pd.concat([products["designation"], products["description"].dropna()])
    assert texts.str.contains(pattern, flags=re.IGNORECASE).sum() >= 3


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    generate(tmp_path / "here", 300)
    script = "import sys, pathlib; from db.source.synthetic import generate; generate(pathlib.Path(sys.argv[1]), 300)"
    subprocess.run([sys.executable, "-c", script, tmp_path / "there"], check=True)
    assert csv_bytes(tmp_path / "here") == csv_bytes(tmp_path / "there")


def test_another_seed_gives_other_products(tmp_path):
    generate(tmp_path / "one", 300, seed=1)
    generate(tmp_path / "two", 300, seed=2)
    assert all(
        one != two for one, two in zip(csv_bytes(tmp_path / "one"), csv_bytes(tmp_path / "two"), strict=True)
    )


def test_draws_are_these_on_every_machine_and_with_every_numpy():
    assert Draws(42).below(1000, 6).tolist() == [773, 438, 858, 697, 94, 975]
    assert Draws(42).permutation(6).tolist() == [4, 1, 3, 0, 2, 5]


def test_existing_data_is_never_replaced(tmp_path):
    generate(tmp_path, 27)
    before = csv_bytes(tmp_path)
    with pytest.raises(BadInputError, match=r"X_train\.csv|exists") as error:
        generate(tmp_path, 27, seed=7)
    assert error.value.remedy
    assert csv_bytes(tmp_path) == before


def test_an_interrupted_generation_leaves_nothing(tmp_path):
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, 300, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_up_to_all_rows(tmp_path):
    steps = []
    generate(tmp_path, 12_000, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(10_000, 13_952), (12_000, 13_952), (13_952, 13_952)]


@pytest.mark.parametrize("rows", [-1, 0, 26])
def test_too_few_rows_are_refused_with_a_remedy(tmp_path, rows):
    with pytest.raises(BadInputError, match="ask for 27") as error:
        generate(tmp_path / "raw", rows)
    assert error.value.remedy
    assert not (tmp_path / "raw").exists()


def test_a_linear_model_scores_as_on_the_real_data(products, labels):
    texts = products["designation"] + " " + products["description"].fillna("")
    split = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    train, holdout = next(split.split(texts, groups=texts))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model = LinearSVC(C=0.5).fit(vectorizer.fit_transform(texts.iloc[train]), labels.iloc[train])
    predicted = model.predict(vectorizer.transform(texts.iloc[holdout]))
    assert 0.72 < f1_score(labels.iloc[holdout], predicted, average="weighted") < 0.88
