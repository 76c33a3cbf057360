"""Which rows arrive when, and which are held out: by seed and text, never by the order of the files."""

import html
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import HOLDOUT, SEED, in_file_order

from db.source.holdout import is_holdout
from db.source.text_group import text_group, text_groups
from db.source.training_set import read_training_set


def test_the_order_of_the_files_decides_nothing(generated, shuffled):
    one = read_training_set(generated, SEED, HOLDOUT)
    other = read_training_set(shuffled, SEED, HOLDOUT)
    assert not one.table.equals(other.table)
    assert one.rows(0, one.total_rows).equals(other.rows(0, other.total_rows))
    assert one.holdout().equals(other.holdout())


def test_ranks_are_a_permutation(generated):
    training_set = read_training_set(generated, SEED, HOLDOUT)
    rows = training_set.rows(0, training_set.total_rows)
    assert rows["sample_rank"].to_pylist() == list(range(training_set.total_rows))
    assert sorted(rows["productid"].to_pylist()) == sorted(training_set.table["productid"].to_pylist())
    assert len(set(rows["productid"].to_pylist())) == training_set.total_rows


def test_rows_of_a_range_of_ranks_are_a_slice_of_all(generated):
    training_set = read_training_set(generated, SEED, HOLDOUT)
    everything = training_set.rows(0, training_set.total_rows)
    assert training_set.rows(240, 258).equals(everything.slice(240, 18))
    assert training_set.rows(5, 5).num_rows == 0


def test_another_seed_draws_another_order_and_another_holdout(generated):
    one = read_training_set(generated, SEED, HOLDOUT)
    other = read_training_set(generated, SEED + 1, HOLDOUT)
    assert not np.array_equal(one.order, other.order)
    assert one.holdout()["productid"].to_pylist() != other.holdout()["productid"].to_pylist()


def test_the_holdout_holds_its_share_and_nothing_else(generated):
    training_set = read_training_set(generated, SEED, HOLDOUT)
    holdout = training_set.holdout()
    assert set(holdout["split"].to_pylist()) == {"holdout"}
    assert 0.05 < holdout.num_rows / training_set.total_rows < 0.15


@pytest.mark.parametrize("percentage", [1, 10, 33, 50])
def test_the_share_of_held_out_texts_is_near_the_percentage(percentage):
    texts = [f"product {number}" for number in range(20_000)]
    rows = pa.table({"designation": texts, "description": [None] * len(texts)})
    share = is_holdout(rows, SEED, percentage).mean()
    assert abs(share - percentage / 100) < 0.02


def test_a_larger_holdout_contains_the_smaller(generated):
    table = in_file_order(read_training_set(generated, SEED, HOLDOUT))
    smaller, larger = (is_holdout(table, SEED, percentage) for percentage in (10, 20))
    assert not (smaller & ~larger).any()
    assert larger.sum() > smaller.sum()


def test_near_identical_texts_never_straddle_the_split(generated):
    rows = in_file_order(read_training_set(generated, SEED, HOLDOUT))
    shouted = rows.set_column(
        rows.column_names.index("designation"),
        "designation",
        pa.array([f"<b>{text.upper()}</b> !" for text in rows["designation"].to_pylist()]),
    )
    assert np.array_equal(is_holdout(rows, SEED, HOLDOUT), is_holdout(shouted, SEED, HOLDOUT))


# ---- the groups of texts that are held out together


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Théière", "THEIERE"),
        ("Théière", "The\u0301ie\u0300re"),  # composed or not
        ("Jeu de société", "jeu  de\tsociété !"),
        ("<p>Vase <b>bleu</b></p>", "vase bleu"),
        ("Th&eacute;i&#232;re &amp; tasse", "théière, tasse"),
        ("&lt;br&gt;Vase", "vase"),
        ("Straße", "STRASSE"),
        ("Lego™", "LegoTM"),
        ("Lego™", "lego™"),
        ("ﬁlm n°5", "Film N°5"),
        ("vase_bleu", "vase-bleu"),
        ("", None),
        ("...", None),
        ("vase &#1114112; bleu", "vase bleu"),  # no such character
        (f"vase &#{'1' * 4_301}; bleu", "vase bleu"),  # nor a number that Python reads
    ],
)
def test_near_identical_texts_are_one_group(one, other):
    assert text_group(one, "x") == text_group(other, "x")
    assert text_group("x", one) == text_group("x", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("vase", None), (None, "vase")),
        (("vase bleu", None), ("vase", "bleu")),
        (("vase bleu", None), ("vasebleu", None)),
        (("vase 1", None), ("vase 2", None)),
        (("a < b", None), ("a", None)),
        (("茶", None), ("壺", None)),
    ],
)
def test_different_texts_are_different_groups(one, other):
    assert text_group(*one) != text_group(*other)


@given(st.none() | st.text(), st.none() | st.text())
def test_any_text_has_a_group_that_case_does_not_change(designation, description):
    group = text_group(designation, description)
    assert group.encode()
    assert group.count("\n") == 1


def fold_plainly(text: str) -> str:
    """The definition of a text's group, a pattern at a time over the whole text."""
    try:
        plain = html.unescape(text)
    except ValueError:
        plain = html.unescape(re.sub(r"&#[0-9]{4301,};?", "\N{REPLACEMENT CHARACTER}", text))
    plain = unicodedata.normalize("NFKD", re.sub(r"<[^<>]*>", " ", plain))
    return re.sub(r"[\W_]+", " ", re.sub(r"[\u0300-\u036f]+", "", plain).casefold()).strip()


def test_every_character_is_folded_as_the_definition_says():
    """Alone and between others, so that what is folded character by character is what is folded as a whole."""
    for code in range(0x20000):  # beyond lie ideographs, and what has no meaning yet
        text = f"a{chr(code)}É{chr(code)}"
        assert text_group(text, None) == f"{fold_plainly(text)}\n", hex(code)


characters = st.sampled_from([*"éß™½œµ★λİﬁ茶_ \n\x81\x85", "e\u0301", "\u0591\u0301"])
markup = st.sampled_from(
    "&eacute; &amp &#233 &#x2605; & ; <b> < > <a href='é'> Thé BLEU 5".split(" ")  # noqa: SIM905
)


@given(st.lists(characters | markup | st.text(max_size=5), max_size=20).map("".join))
def test_any_text_is_folded_as_the_definition_says(text):
    assert text_group(text, None) == f"{fold_plainly(text)}\n"


TEXTS = st.none() | st.text() | st.text("aAéÉßœ™½🎁\u0301\u0345\u0591\u05b0 \n\0\1-_&;<b>", max_size=20)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_many_texts_have_the_groups_that_each_has_by_itself(products):
    designations, descriptions = ([product[i] for product in products] for i in (0, 1))
    assert text_groups(designations, descriptions) == [text_group(*product) for product in products]


def test_the_groups_of_many_texts_are_in_their_order():
    texts = [f"Été {number}" for number in range(3000)]
    assert text_groups(texts, [None] * 3000) == [text_group(text, None) for text in texts]
