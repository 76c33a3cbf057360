"""A card says the same as a page and as Markdown, and no text of the data becomes markup in either."""

import html
import re

import pytest
from hostile_titles import HOSTILE_TITLES
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

from listeners.cards.document import (
    MARKDOWN_LENGTH,
    Card,
    Commands,
    Paragraph,
    Score,
    Section,
    Share,
    Table,
    escape_markdown,
    facts,
)
from listeners.cards.sections import drift_section
from listeners.tracking.descriptions import VERDICT_PENDING, with_verdict


def card(*sections):
    return Card("A <card>", [Paragraph("**bold** `code` [run](#/a/b) 1 < 2")], sections)


def test_a_page_escapes_all_texts_and_has_our_own_markup():
    page = card(Section("A & B", [Table(("<i>",), [(text,) for text in HOSTILE_TITLES])])).html()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<p><strong>bold</strong> <code>code</code> run 1 &lt; 2</p>" in page
    assert "<h2>A &amp; B</h2>" in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("text", HOSTILE_TITLES)
def test_a_cell_of_markdown_shows_its_text_and_nothing_else(text):
    [_, _, row] = card(Section("T", [Table(("x", "y"), [(text, 1)])])).markdown().splitlines()[-3:]
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", row)
    assert len(cells) == 4  # the ends are empty
    escaped = escape_markdown(text)
    assert html.unescape(re.sub(r"\\(.)", r"\1", escaped)) == " ".join(text.split())
    unescaped = re.sub(r"\\.|&#?\w+;", "", escaped)
    assert not re.search(r"[<>&$@:\\`*_\[\]()#+!|~{}\n\t-]|\.\.|www\.", unescaped, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("https://a.example", "https&#58;//a.example"),
        ("WWW.a.example", "WWW&#46;a.example"),
        ("me@a.example", "me&#64;a.example"),
        ("C&A <b>", "C&amp;A &lt;b&gt;"),
        ("$x$ ...", "&#36;x&#36; &#46;&#46;."),
        ("a_b", r"a\_b"),
    ],
)
def test_showdown_gets_entities_where_it_would_make_a_link_or_show_a_backslash(text, escaped):
    assert escape_markdown(text) == escaped


def test_a_description_fits_into_a_tag_and_says_where_the_rest_is():
    assert MARKDOWN_LENGTH < MAX_TAG_VAL_LENGTH
    many = [Section(f"Section {n}", [Paragraph("word " * 200)]) for n in range(20)]
    text = card(*many).markdown()
    assert len(text) <= MARKDOWN_LENGTH
    assert "### Section 0" in text
    assert text.endswith("The rest is in `card.html`, among the artifacts of this run.")
    assert "Section 19" in card(*many).html()


def test_a_long_table_is_cut_in_the_description_only():
    table = Table(("n",), [(n,) for n in range(100, 120)])
    text = card(Section("T", [table])).markdown()
    assert "| 107 |" in text
    assert "| 108 |" not in text
    assert "12 more rows are in `card.html`." in text
    assert ">119<" in card(Section("T", [table])).html()


def test_numbers_shares_and_commands_are_shown_as_what_they_are():
    page = card(
        Section("T", [facts(("rows", 12345), ("part", Share(0.256)), ("F1", Score(0.5))), Commands("a < b")])
    ).html()
    for part in ("12,345", "25.6 %", "0.500", "--share:25.6%", "<pre><code>a &lt; b</code></pre>"):
        assert part in page
    text = card(Section("T", [facts(("part", Share(0.256))), Commands("a < b")])).markdown()
    assert "| part | 25.6 % |" in text
    assert "```\na < b\n```" in text


def test_the_section_about_drift_names_what_changed():
    entry = {
        "feature": "language",
        "reference": "before",
        "rows": 9,
        "reference_rows": 8,
        "psi": 0.1,
        "js": 0.2,
        "noise": 0.1,
    }
    text = card(drift_section([{**entry, "drifted": True}])).markdown()
    assert "**Changed by more than chance**: language (the week before)." in text
    assert "Nothing changed" in card(drift_section([{**entry, "drifted": False}])).markdown()
    assert "first week" in card(drift_section([])).markdown()


def test_a_verdict_takes_the_place_of_the_sentence_that_announces_it_once():
    before = f"F1 0.7.\n\n{VERDICT_PENDING.format('promotion.json')}\n\nmore"
    first = with_verdict(before, {"promote": True, "reason": "there is no champion yet"}, "promotion.json")
    assert (
        "**Became champion**: there is no champion yet. The whole comparison is in `promotion.json`." in first
    )
    compared = {"promote": False, "reason": "significantly worse: weighted F1 -0.0100", "champion_version": 3}
    assert with_verdict(first, compared, "promotion_2.json") == first
    second = with_verdict(before, compared, "promotion_2.json")
    assert (
        "**Did not become champion** (compared with version 3): significantly worse: weighted F1 -0.0100."
        in second
    )
    assert "`promotion_2.json`" in second
