import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import strip_accents_unicode

from listeners.training.text import text_cleaner, unclosed_comments


def clean(text):
    """As the vectorizers get to see it: they lower it."""
    return (
        text_cleaner()
        .transform(pd.DataFrame({"designation": [text], "description": ["-"]}))["designation"]
        .item()
        .lower()
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("L&#39;&eacute;t&eacute;", "l'ete"),
        ("&amp;eacute;cran &amp;lt;b&amp;gt;", "ecran  "),
        ("Pile<br />AA<BR>x4", "pile aa x4"),
        ("<p class='a'>Un</p><!-- no\nnote -->Deux", " un  deux"),
        ("I <3 Paris, 2 < 3 > 1", "i <3 paris, 2 < 3 > 1"),
        ("ÉLAGUEUR À CHAÎNE", "elagueur a chaine"),
        ("Lego™ ﬁgurine Ⅷ", "legotm figurine viii"),
        ("日本語 ёж", "日本語 еж"),
    ],
)
def test_html_accents_and_case_are_folded(raw, expected):
    assert clean(raw) == expected


@pytest.mark.parametrize("null", [None, float("nan"), np.nan, pd.NA])
def test_a_null_becomes_an_empty_text(null):
    assert clean(null) == ""


def test_a_missing_column_is_empty_and_further_columns_are_ignored():
    cleaned = text_cleaner().transform(pd.DataFrame({"productid": [1, 2], "designation": ["Un", None]}))
    assert cleaned.to_dict("list") == {"designation": ["Un", ""], "description": ["", ""]}


@pytest.mark.parametrize("dtype", ["object", "str", "string"])
def test_every_text_dtype_is_cleaned_alike(dtype):
    frame = pd.DataFrame({"designation": ["É", None], "description": [None, "<b>à</b>"]}, dtype=dtype)
    cleaned = text_cleaner().transform(frame)
    assert cleaned.to_dict("list") == {"designation": ["E", ""], "description": ["", " a "]}


def test_a_reference_to_a_number_that_python_does_not_read_is_dropped():
    assert clean("a &#" + "1" * 5000 + "; b &amp;#" + "1" * 5000 + "; c").split() == ["a", "b", "c"]


def test_cleaned_text_needs_no_more_cleaning():
    once = clean("<i>&Eacute;T&Eacute;</i> №5 ǅ")
    assert clean(once) == once == strip_accents_unicode(once).lower()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a < b", 0),
        ("<!-- a --> b", 0),
        ("<!--<!--<!-- --> a", 0),
        ("<!-- a --> <!-- b <!-- c", 2),
        ("&lt;!--" * 3, 3),
        ("&amp;lt;&#33;-&amp;#45;" * 3, 3),
        ("&#" + "1" * 5000 + ";<!--", 1),
    ],
)
def test_comments_that_begin_and_do_not_end_are_counted_as_the_cleaner_sees_them(text, count):
    assert unclosed_comments(text) == count
    assert clean(text).count("<!--") == count
