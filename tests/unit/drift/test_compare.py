"""Drift must say nothing about noise, and something about change."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from listeners.drift.compare import compare
from listeners.drift.groups import compare_groups, histogram

WEEKS_PER_YEAR = 52
# The bins of each feature, the rows of a week and of its references; language has fewer rows.
FEATURES = {
    "classes": 27,
    "titles": 13,
    "descriptions": 9,
    "missing": 2,
    "languages": 8,
    "words": 9,
    "confidence": 10,
}


def drawn(rng, shares, rows):
    counts = rng.multinomial(rows, shares).tolist()
    return {str(number): count for number, count in enumerate(counts)}


def shares_of(rng, bins):
    """Shares as unequal as those of the challenge's classes, some of which are rare."""
    return np.sort(rng.dirichlet(np.full(bins, 0.8)))


@pytest.mark.parametrize("rows", [300, 2000])
def test_without_change_there_is_about_one_alarm_a_year_at_most(rows):
    years = 2
    rng = np.random.default_rng(rows)
    alarms = 0
    for bins in FEATURES.values():
        shares = shares_of(rng, bins)
        first = drawn(rng, shares, 2000)
        weeks = [drawn(rng, shares, rows) for _ in range(years * WEEKS_PER_YEAR)]
        for before, week in zip([first, *weeks], weeks, strict=False):
            groups = {"new": week, "first": first, "before": before}
            alarms += sum(entry["drifted"] for entry in compare_groups({"feature": groups}, seed=42))
    # at most 0.73 a year are expected, and the chance of more than 6 in two years is below 0.2 % (Poisson)
    assert alarms <= 6


def test_a_class_that_doubles_its_share_is_an_alarm_with_the_rows_of_a_week():
    rng = np.random.default_rng(1)
    shares = np.array([0.08, *[0.92 / 26] * 26])
    shifted = np.array([0.16, *[0.84 / 26] * 26])
    found = [
        compare("class shares", "first", drawn(rng, shifted, 2000), drawn(rng, shares, 2000), seed=42)
        for _ in range(20)
    ]
    assert sum(entry["drifted"] for entry in found) >= 18


def test_the_same_difference_is_no_alarm_with_few_rows():
    """A fixed threshold of the PSI would call the 30 rows a large change."""
    rng = np.random.default_rng(2)
    shares = shares_of(rng, 27)
    found = compare("class shares", "first", drawn(rng, shares, 30), drawn(rng, shares, 2000), seed=42)
    assert found["psi"] > 0.25
    assert not found["drifted"]


def test_a_comparison_depends_on_its_seed_and_nothing_else():
    new, old = {"a": 30, "b": 70}, {"a": 500, "b": 480, "c": 20}
    assert compare("x", "first", new, old, seed=1) == compare(
        "x", "first", dict(reversed(new.items())), old, seed=1
    )
    assert (
        compare("x", "first", new, old, seed=1)["noise"] != compare("x", "first", new, old, seed=2)["noise"]
    )


def test_the_measures_are_those_of_their_definitions():
    found = compare("x", "first", {"a": 30, "b": 70}, {"b": 60, "c": 40}, seed=1)
    p, q = np.array([0.3, 0.7, 0]), np.array([0, 0.6, 0.4])
    assert found["js"] == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    new, old = (30.5, 70.5, 0.5), (0.5, 60.5, 40.5)
    psi = sum((a / 101.5 - b / 101.5) * np.log(a / b) for a, b in zip(new, old, strict=True))
    assert found["psi"] == pytest.approx(psi)
    assert (found["rows"], found["reference_rows"]) == (100, 100)


def test_equal_histograms_and_those_without_a_common_bin_are_the_ends_of_the_scale():
    same = compare("x", "first", {"a": 5, "b": 5}, {"a": 50, "b": 50}, seed=1)
    assert (same["js"], same["psi"] < 0.01, same["drifted"]) == (0, True, False)
    apart = compare("x", "first", {"a": 50}, {"b": 50}, seed=1)
    assert apart["js"] == pytest.approx(1)
    assert apart["drifted"]
    single = compare("x", "first", {"a": 50}, {"a": 50}, seed=1)
    assert (single["js"], single["noise"], single["drifted"]) == (0, 0, False)


def test_a_group_without_products_is_not_compared():
    assert compare_groups({"x": {"new": {"a": 1}}}, seed=1) == []
    assert compare_groups({"x": {"new": {"a": 0}, "first": {"a": 4}}}, seed=1) == []
    [entry] = compare_groups({"x": {"new": {"a": 1}, "first": {"a": 4}, "before": {"a": 0}}}, seed=1)
    assert entry["reference"] == "first"


def test_a_histogram_names_its_bins_by_their_lower_edges():
    values = np.array([0, 19, 20, 49, 50, 5000])
    assert histogram(values, (0, 20, 50)) == {"0": 2, "20": 2, "50": 2}
    assert histogram(np.array([0.04, 0.05, 1.0]), (0, 0.05)) == {"0": 1, "0.05": 2}
    assert histogram(np.empty(0), (0, 20)) == {"0": 0, "20": 0}
