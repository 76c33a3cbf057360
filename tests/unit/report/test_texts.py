"""The page's texts say what is known, and no more."""

import pytest
from report_facts import built, champion_of, facts_of, loaded, scores

from db.sql import query
from rakuten.report.sections import data, models, operations
from rakuten.report.summary import tiles_of
from rakuten.report.tables import Facts
from rakuten.storage import STORAGE_QUERY
from rakuten.storage_table import sentences


def tile(facts: Facts, title: str):
    return next(tile for tile in tiles_of(facts) if tile.title == title)


def test_the_page_says_about_the_disk_what_the_command_says():
    facts = facts_of(weeks_to_come=5, batches=loaded("week_1"))
    section, disk = operations.storage(facts), tile(facts, "Disk")
    assert section.says == " ".join(sentences(facts.storage))
    assert "mlflow.db" in {cell for row in section.grids[0].rows for cell in row}
    assert (disk.answer, disk.tone) == ("3.0 MB free", "plain")
    assert disk.sentence == "The 5 weeks still to load need about 5.0 MB, which does not fit."
    assert section.says.endswith(disk.sentence)
    assert section.queries[0].sql == query(STORAGE_QUERY)


@pytest.mark.parametrize(
    ("weeks", "with_dataset", "said"),
    [
        (["week_1"], ["week_1"], "Nothing to compare yet: this is the first week."),
        (["week_1", "correction_1"], ["week_1"], "Nothing to compare yet: this is the first week."),
        (["week_1", "week_2"], ["week_1"], "Nothing to compare yet: no later week has a dataset."),
        (["week_1", "week_2"], ["week_1", "week_2"], "All batches: not recorded by version 0.2."),
    ],
)
def test_without_drift_the_page_says_why(weeks, with_dataset, said):
    facts = facts_of(batches=loaded(*weeks), attempts=built(*with_dataset))
    assert data.drift(facts).says == tile(facts, "Drift").sentence == said


def test_a_week_that_waits_for_its_dataset_is_not_said_to_lack_drift():
    comparison = {"batch_name": "week_2", "feature": "language", "reference": "first", "drifted": False}
    facts = facts_of(
        batches=loaded("week_1", "week_2", "week_3"),
        attempts=built("week_1", "week_2"),
        drift=[comparison],
    )
    assert data.weeks_without_drift(facts) == ""


def test_without_suspects_the_page_names_both_causes():
    says = data.suspects(facts_of(model_scores=scores(0.7))).says
    assert says.startswith("All batches: no suspected labels recorded, because version 0.2 trained the model")
    assert "its trainer gives no probabilities" in says
    assert data.suspects(facts_of()).says == "No model is trained yet."


def test_without_a_champion_no_lineage_is_drawn():
    never = facts_of(batches=loaded("week_1"))
    deleted = facts_of(batches=loaded("week_1"), champion_lineage=[champion_of(None, None, None)])
    for facts, said in ((never, "No model is in use yet."), (deleted, "There is no champion now.")):
        section = models.champion(facts)
        assert (section.says, section.steps) == (said, ())
        assert (tile(facts, "Champion").answer, tile(facts, "Champion").sentence) == ("none", said)


def test_a_champion_of_an_unknown_batch_has_unknown_names():
    facts = facts_of(batches=loaded("week_1"), champion_lineage=[champion_of(4, None, None)])
    section = models.champion(facts)
    assert section.says == "Version 4, the model of an unknown batch, is in use."
    assert [step.name for step in section.steps] == ["unknown", "unknown", "unknown", "version 4"]
    assert tile(facts, "Champion").sentence == f"{section.says} Its F1 is unknown."


def test_a_missing_listener_is_left_out_with_a_note_while_nothing_runs():
    finding = {"severity": "error", "subject": "snapshot", "detail": "", "remedy": ""}
    found = [{**finding, "finding": "no listener"}, {**finding, "finding": "load failed"}]
    at_work, at_rest = (facts_of(at_rest=rest, problems=found) for rest in (False, True))
    assert len(operations.problems(at_work).grids[0].rows) == 2
    assert "left out" not in operations.problems(at_work).says
    assert [row[1] for row in operations.problems(at_rest).grids[0].rows] == ["load failed"]
    assert "the query's rows about missing listeners are left out" in operations.problems(at_rest).says
