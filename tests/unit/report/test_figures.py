"""The figures are valid Vega-Lite, and the page's texts say what the data says."""

import json

import altair as alt
import pytest
from report_facts import BATCHES, PLACES, facts_of, scores

from rakuten.report import figures, heatmaps
from rakuten.report.page import json_for_script, page_of
from rakuten.report.parts import grid, line, percent, pivot, plural, text_of, unrecorded
from rakuten.report.sections import models
from rakuten.report.vega import class_label

HOSTILE = "</script><script>alert(1)</script><!-- \u2028\u2029 &"


def move(kind: str, to: int, *, model_of: str, after: str = "week_3") -> dict:
    return {
        "kind": kind,
        "from_version": to - 1,
        "to_version": to,
        "model_of": model_of,
        "after_batch": after,
        "reason": HOSTILE,
    }


def specifications() -> dict[str, dict]:
    shares = [
        {"batch_name": name, "prdtypecode": code, "category": HOSTILE, "share": 0.5}
        for name in BATCHES
        for code in (10, 40)
    ]
    classes = [class_label(row) for row in shares[:2]]
    moves = models.place_moves([move("rollback", 1, model_of="week_1")], scores(0.7, 0.8))
    rows = [
        {
            "batch_name": name,
            "file_rows": 100,
            "total_rows": 50,
            "kind": "week",
            "percentage": 40.0,
            "reason": None,
        }
        for name in BATCHES
    ]
    return {
        "rows": figures.rows_by_batch(rows, BATCHES),
        "heatmap": heatmaps.class_heatmap(shares, BATCHES, classes, field="share", title="share", form=".1%"),
        "f1": figures.f1_by_batch(scores(0.7, 0.8), models.champion_by_batch(moves, BATCHES), moves, BATCHES),
        "seconds": figures.seconds_by_step(
            [{"batch_name": "week_1", "step": "load", "seconds": seconds} for seconds in (0.02, 0.0, None)],
            BATCHES,
        ),
        "attempts": figures.attempts_by_batch(
            [
                {
                    "batch_name": "week_1",
                    "stage": "training",
                    "attempts": 3,
                    "finished": 1,
                    "failures": 1,
                    "outages": 1,
                    "ended_early": 0,
                }
            ],
            BATCHES,
        ),
        "storage": figures.bytes_by_object(PLACES),
        "drift": heatmaps.drift_heatmap(
            [
                {
                    "batch_name": "week_2",
                    "feature": "language",
                    "js": js,
                    "noise": noise,
                    "drifted": js is not None,
                    "psi": 0,
                    "rows": 3,
                }
                for js, noise in ((0.3, 0.1), (0.3, 0.0), (None, None))
            ],
            BATCHES,
            ["language"],
        ),
        "suspects": figures.suspects_by_batch([{"batch_name": "week_1", "suspects": 3}], BATCHES),
    }


@pytest.mark.parametrize("name", specifications())
def test_a_figure_is_valid_vega_lite(name):
    alt.Chart.from_dict(specifications()[name], validate=True)


def test_the_axis_has_all_batches_in_the_order_of_the_chain():
    axis = specifications()["suspects"]["encoding"]["x"]
    assert axis["scale"]["domain"] == ["1", "2", "c1", "3"]


def test_a_promotion_is_at_the_batch_of_its_model_and_a_rollback_at_the_newest_batch():
    moves = [move("promotion", 2, model_of="week_2"), move("rollback", 1, model_of="week_1")]
    placed = models.place_moves(moves, scores(0.7, 0.8))
    assert [(row["batch_name"], row["f1"]) for row in placed] == [("week_2", 0.8), ("week_3", 0.7)]
    held = models.champion_by_batch(placed, BATCHES)
    assert [(row["batch_name"], row["model_version"]) for row in held] == [
        ("week_2", 2),
        ("correction_1", 2),
        ("week_3", 1),
    ]


def test_the_alias_that_was_deleted_is_no_point_of_the_figure():
    assert (
        models.place_moves([{**move("by hand", 1, model_of="week_1"), "to_version": None}], scores(0.7)) == []
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((), "No model is trained yet."),
        ((0.7,), "The only model has F1 0.700."),
        ((0.7, 0.71), "rose from 0.700 (week_1) to 0.710 (week_2). The intervals overlap"),
        ((0.8, 0.7), "fell from 0.800 (week_1) to 0.700 (week_2). The intervals do not overlap"),
    ],
)
def test_the_trend_says_whether_chance_explains_it(values, said):
    assert said in models.trend(scores(*values))


def test_json_in_a_script_cannot_end_the_script_and_stays_the_same():
    text = json_for_script({"title": HOSTILE})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"title": HOSTILE}


def test_a_number_that_json_lacks_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        json_for_script(float("nan"))


def test_the_page_of_an_empty_database_says_what_to_do():
    page = page_of(facts_of(), "")
    assert "Nothing is loaded yet" in page
    assert "<figure" not in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (1234567, "1,234,567"), (0.123456, "0.1235"), (HOSTILE, HOSTILE)],
)
def test_a_value_is_written_for_people(value, text):
    assert text_of(value) == text


def test_units_and_plurals():
    assert percent(0.1234) == "12.34\u00a0%"
    assert (plural(1, "week"), plural(2, "batch"), plural(0, "class")) == ("1 week", "2 batches", "0 classes")


def test_a_pivot_has_a_dash_where_a_batch_has_no_value():
    rows = [
        {"class": "a", "batch_name": "week_2", "f1": 0.5},
        {"class": "b", "batch_name": "week_1", "f1": 0.6},
    ]
    table = pivot("F1", rows, BATCHES, down="class", value="f1", form=str)
    assert table.headings == ("class", "week_1", "week_2")
    assert table.rows == [("a", "-", "0.5"), ("b", "0.6", "-")]


def test_numbers_are_aligned_to_the_right():
    table = grid("Rows", [{"name": "a", "rows": 5}, {"name": "b", "rows": None}], name="name", rows="rows")
    assert table.numeric == (False, True)


def test_a_small_line_begins_at_its_base_and_stays_in_its_box():
    drawn = line("class", [1.0, 2.0, 0.5], 0.5, 2.0, "")
    assert drawn.points == "0.0,20.0 50.0,0.0 100.0,30.0"
    assert drawn.base == 20.0


def test_batches_without_a_record_are_counted():
    rows = [{"batch_name": "week_2"}]
    assert unrecorded(["week_1", "week_2"], rows) == "1 batch: not recorded by version 0.2."
    assert unrecorded(["week_1"], []) == "All batches: not recorded by version 0.2."
    assert unrecorded(["week_2"], rows) == ""
