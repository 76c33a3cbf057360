"""What is remembered of a text changes the time that a fit takes, and nothing else."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from listeners.training.features import fit_tfidf
from listeners.training.tokens import TokenFile, tokenise

WORDS = ["le", "chat", "noir", "é", "\u0301", "\ud800", "\U0001d7d8", "\x1c", "\n", " "]
DATASETS = st.lists(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=8),
    min_size=1,
    max_size=4,
)
KINDS = st.sampled_from([{"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (1, 3)}])
BEFORE, AFTER = ["le chat", "le chien", ""], ["le chien", "un chat noir", "le chat"]


def known(tokens):
    return tokens.words, tokens.ranks.tolist(), tokens.lengths.tolist()


@settings(max_examples=100, deadline=None)
@given(datasets=DATASETS, kind=KINDS)
def test_with_and_without_a_cache_every_dataset_has_the_same_bits(datasets, kind):
    with TemporaryDirectory() as directory:
        for texts in datasets:
            multiplicities = np.arange(1, len(texts) + 1)
            fits = []
            for cache in (None, Path(directory, "cache")):
                vectorizer = TfidfVectorizer(**kind, min_df=1)
                try:
                    matrix = fit_tfidf(vectorizer, texts, multiplicities, cache=cache)
                except ValueError:
                    fits.append(None)
                    continue
                fits.append((list(vectorizer.vocabulary), vectorizer.idf_.tobytes(), matrix.data.tobytes()))
                fits[-1] += (matrix.indices.tolist(), matrix.indptr.tolist())
            assert fits[0] == fits[1]


def test_only_new_texts_are_split(tmp_path):
    asked = []

    def split(text):
        asked.append(text)
        return text.split()

    TokenFile(tmp_path / "cache", "split").tokenise(BEFORE, split)
    asked.clear()
    tokens = TokenFile(tmp_path / "cache", "split").tokenise(AFTER, split)

    assert asked == ["un chat noir"]
    assert known(tokens) == known(tokenise(AFTER, str.split))


def test_texts_that_are_gone_are_forgotten(tmp_path):
    path = tmp_path / "cache"
    TokenFile(path, "split").tokenise([f"text {n}" for n in range(1000)], str.split)
    TokenFile(path, "split").tokenise(AFTER, str.split)
    only = tmp_path / "only"
    TokenFile(only, "split").tokenise(AFTER, str.split)
    assert path.read_bytes() == only.read_bytes()


def shortened(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [shortened, flipped, lambda _: b"", lambda _: b"\x00" * 500])
def test_a_damaged_file_is_ignored_and_made_anew(tmp_path, damage):
    path = tmp_path / "cache"
    TokenFile(path, "split").tokenise(AFTER, str.split)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))

    tokens = TokenFile(path, "split").tokenise(AFTER, str.split)

    assert known(tokens) == known(tokenise(AFTER, str.split))
    assert path.read_bytes() == whole


def test_a_file_of_another_rule_is_ignored(tmp_path):
    path = tmp_path / "cache"
    TokenFile(path, "letters").tokenise(AFTER, list)
    tokens = TokenFile(path, "split").tokenise(AFTER, str.split)
    assert known(tokens) == known(tokenise(AFTER, str.split))


def test_where_nothing_can_be_kept_a_fit_goes_on(tmp_path):
    (tmp_path / "file").touch()
    tokens = TokenFile(tmp_path / "file" / "cache", "split").tokenise(AFTER, str.split)
    assert known(tokens) == known(tokenise(AFTER, str.split))


def test_writers_at_the_same_time_leave_a_whole_file(tmp_path):
    path = tmp_path / "cache"
    datasets = [[f"word {n} of {number}" for n in range(50)] for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda texts: TokenFile(path, "split").tokenise(texts, str.split), datasets))

    assert [known(one) for one in results] == [known(tokenise(texts, str.split)) for texts in datasets]
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]
    asked = []
    TokenFile(path, "split").tokenise(
        [text for texts in datasets for text in texts], lambda text: asked.append(text) or text.split()
    )
    assert len(asked) == 15 * 50
