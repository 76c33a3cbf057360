"""Who comes back when a champion is rolled back, by a call and by the commands, and what later models are compared with."""

import json

import pytest
from champion_models import wrong

from listeners.promotion.champion_history import MoveKind, champion_history
from shared.errors import BadInputError, PipelineError
from shared.mlflow_names import REGISTERED_MODEL


def test_a_rollback_goes_to_the_champion_before_and_keeps_who_and_why(models, three_champions):
    move = models.roll_back(reason=" labels of week 3 are wrong ")
    assert models.champion == 2
    assert move == champion_history(models.tracking)[-1]
    assert (move.kind, move.from_version, move.to_version) == (MoveKind.ROLLBACK, 3, 2)
    assert (move.reason, move.by) == ("labels of week 3 are wrong", "somebody")


def test_a_second_rollback_goes_further_back_and_not_forth_again(models, three_champions):
    models.roll_back()
    models.roll_back()
    assert models.champion == 1
    with pytest.raises(PipelineError, match="no champion before"):
        models.roll_back()


def test_a_repeated_attempt_of_its_batch_does_not_undo_a_rollback(models, three_champions):
    verdict = models.verdict(three_champions[2])
    models.roll_back()
    assert not models.promote(three_champions[2])
    assert models.champion == 2
    assert models.verdict(three_champions[2]) == verdict  # by which it once was promoted
    again, promoted = models.arrive(3, wrong(0, 0))  # its run was lost, the batch trained once more
    assert (promoted, models.champion) == (False, 2)
    assert models.verdict(again)["reason"] == "version 3, of this batch or a later one, was rolled back"


def test_a_rollback_over_several_keeps_all_of_them_out(models, three_champions):
    models.roll_back(1)
    assert [models.promote(model) for model in three_champions] == [True, False, False]
    assert models.champion == 1


def test_later_models_are_compared_with_the_champion_after_the_rollback(models, three_champions):
    models.roll_back()
    fourth, promoted = models.arrive(4, wrong(0, 49))
    verdict = models.verdict(fourth)
    assert (promoted, verdict["champion_version"], models.champion) == (True, 2, 4)
    assert "best" not in verdict  # version 3 was better, and is no measure any more
    models.roll_back()
    assert models.champion == 2


def test_a_withdrawn_version_that_a_person_brings_back_counts_again(models, three_champions):
    models.roll_back()
    models.roll_back(3, reason="the labels were right")
    assert models.promote(three_champions[2])
    fourth, _promoted = models.arrive(4, wrong(0, 45))
    assert models.verdict(fourth)["champion_version"] == 3


def test_a_version_that_never_was_champion_can_be_chosen(models, three_champions):
    models.arrive(4, wrong(0, 200))
    models.roll_back(4, reason="it is the only one with the new category")
    assert models.champion == 4
    models.roll_back(reason="not worth it")
    assert models.champion == 3


@pytest.mark.parametrize(
    ("to_version", "reason", "said"),
    [
        (7, "why", "no version 7"),
        (3, "why", "champion already"),
        (1, "", "1 to 700 characters"),
        (1, " \n ", "1 to 700 characters"),
        (1, "x" * 701, "it has 701"),
    ],
)
def test_a_rollback_that_makes_no_sense_is_refused(models, three_champions, to_version, reason, said):
    with pytest.raises(BadInputError, match=said):
        models.roll_back(to_version, reason=reason)
    assert (models.champion, len(models.moves)) == (3, 3)


def test_the_version_to_go_back_to_must_still_exist(models, three_champions):
    models.client.delete_model_version(REGISTERED_MODEL, "2")
    with pytest.raises(BadInputError, match="no version 2"):
        models.roll_back()
    models.roll_back(1)
    assert models.champion == 1


def test_a_rollback_beyond_the_first_champion_goes_to_the_version_that_is_named(models, three_champions):
    models.roll_back()
    models.roll_back()
    with pytest.raises(
        PipelineError, match=r"name the version to roll back to: `rakuten rollback --to VERSION`"
    ):
        models.roll_back()
    models.roll_back(3)
    assert models.champion == 3


def test_without_a_registered_model_there_is_nothing_to_roll_back(models):
    with pytest.raises(PipelineError, match="no champion before"):
        models.roll_back()
    assert models.moves == []


# ---- the commands


@pytest.fixture
def rakuten(models, settings, rakuten_as, monkeypatch):
    """On this test's database."""
    monkeypatch.setenv("LOGNAME", "marie")
    return rakuten_as(models.conninfo, settings)


def test_the_commands_roll_back_and_show_the_history(models, three_champions, rakuten):
    done = rakuten("rollback", "--reason", "[b] \x1b")
    assert (done.exit_code, done.output) == (0, "version 2 is champion, instead of version 3\n")
    shown = rakuten("champion").output
    assert "champion of rakuten_classifier: version 2\n" in shown
    assert "│ marie        │ [b] ?" in shown
    document = json.loads(rakuten("champion", "--json").output)
    assert (document["champion"], len(document["history"])) == (2, 4)
    last = document["history"][-1]
    assert (last["kind"], last["from_version"], last["to_version"], last["by"]) == ("rollback", 3, 2, "marie")
    moved = json.loads(rakuten("rollback", "--to", "3", "--reason", "it was right", "--json").output)
    assert (moved["from_version"], moved["to_version"], moved["reason"]) == (2, 3, "it was right")
    models.move_by_hand(1)
    assert "version 1, moved by hand since" in rakuten("champion").output


def test_the_commands_say_what_is_wrong(models, rakuten):
    assert rakuten("champion").output == "champion of rakuten_classifier: none\n"
    assert rakuten("rollback").exit_code == 2
    assert "--reason" in rakuten("rollback").output
    assert isinstance(rakuten("rollback", "--reason", " ").exception, BadInputError)
    assert isinstance(rakuten("rollback", "--reason", "why").exception, PipelineError)
