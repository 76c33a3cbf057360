"""Which model becomes champion, and by which verdict: on a real registry, by models that are only predictions."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from champion_models import CODES, ROWS, TRUTH, wrong

from listeners.promotion.champion_alias import champion_alias
from listeners.promotion.champion_history import champion_history
from listeners.promotion.choose_champion import ensure_promoted
from listeners.tracking.runs import Tracking
from shared.errors import OutageError, StageError
from shared.mlflow_names import REGISTERED_MODEL


def test_every_promotion_is_kept_with_its_reason(models, three_champions):
    assert models.champion == 3
    assert models.moves == [("promotion", None, 1), ("promotion", 1, 2), ("promotion", 2, 3)]
    first, _second, third = champion_history(models.tracking)
    assert first.reason == "there is no champion yet"
    assert third.reason.startswith("not significantly worse: weighted F1 +0.0")
    assert (third.by, third.run_id) == ("model_week_3", three_champions[2][0].info.run_id)
    assert third.at - datetime.now(UTC) < timedelta(minutes=5)
    assert models.verdict(three_champions[2])["champion_version"] == 2


def test_a_model_that_is_worse_moves_nothing_and_its_verdict_says_why(models, three_champions):
    fourth, promoted = models.arrive(4, wrong(0, 120))
    assert (promoted, models.champion, len(models.moves)) == (False, 3, 3)
    assert models.verdict(fourth)["reason"].startswith("significantly worse: weighted F1 -0.0")


def test_a_class_that_collapses_keeps_a_better_model_out(models):
    models.arrive(1, wrong(0, 200))
    collapsed = wrong(0, 50)
    collapsed[TRUTH == 60] = 10
    second, promoted = models.arrive(2, collapsed)
    verdict = models.verdict(second)
    assert (promoted, verdict["promote"], verdict["blocked_by"]) == (False, False, [60])
    assert verdict["difference"] > 0
    assert [entry["prdtypecode"] for entry in verdict["classes"]] == CODES.tolist()
    assert verdict["classes"][-1] | {"p_value": 0} == {
        "prdtypecode": 60,
        "rows": 40,
        "champion_f1": 1.0,
        "challenger_f1": 0.0,
        "p_value": 0,
    }


def test_a_chain_of_losses_that_are_each_too_small_to_tell_is_ended_by_the_best_there_was(models):
    """Each week four rows are lost and two others gained: nothing, until it is compared with where it began."""
    losses = [np.union1d(np.arange(4 * week), np.arange(700 + 2 * week, 740)) for week in range(13)]
    outcome = []
    for week, rows in enumerate(losses, start=1):
        predictions = TRUTH.copy()
        predictions[rows] = wrong(0, ROWS)[rows]
        outcome.append(models.arrive(week, predictions))
    promoted = [was_promoted for _, was_promoted in outcome]
    assert promoted[:3] == [True] * 3
    assert not promoted[-1]
    first_refusal = models.verdict(outcome[promoted.index(False)][0])
    assert first_refusal["p_value"] >= 0.05  # not against the champion
    assert first_refusal["best"]["version"] == 1
    assert first_refusal["best"]["best_of"] == promoted.index(False)
    assert first_refusal["best"]["significance"] == 0.05 / promoted.index(False)
    assert (
        f"against version 1, the best of {promoted.index(False)} champions: significantly worse"
        in (first_refusal["reason"])
    )


def test_an_equally_good_model_is_not_held_against_the_luck_of_the_best(models):
    """Against the best of five, the same loss must be as unlikely as against one alone."""
    models.arrive(1, wrong(0, 40))
    for week in (2, 3, 4, 5):
        models.arrive(week, wrong(0, 39 + week))
    sixth, promoted = models.arrive(6, wrong(0, 44))
    verdict = models.verdict(sixth)
    assert (promoted, verdict["best"]["best_of"]) == (True, 5)
    assert verdict["best"]["p_value"] < 0.05  # by itself it would have been refused


def test_a_repeated_attempt_keeps_the_verdict_by_which_a_former_champion_was_promoted(
    models, three_champions
):
    verdict = models.verdict(three_champions[1])
    assert not models.promote(three_champions[1])
    assert models.verdict(three_champions[1]) == verdict
    assert verdict["promote"]
    assert models.champion == 3


@pytest.mark.parametrize("away", ["champion", "best there was"])
def test_an_mlflow_that_is_away_is_waited_out_and_decides_nothing(models, three_champions, monkeypatch, away):
    """Version 1 scored best; the challenger is compared with version 3 and with it."""
    models.arrive(4, wrong(0, 46))
    fifth = models.train(5, wrong(0, 45))
    lost = {"champion": models.champion, "best there was": 3}[away]
    run_id = models.client.get_model_version(REGISTERED_MODEL, str(lost)).run_id
    download = Tracking.download

    def fail(tracking, run, artifact, directory):
        if run.info.run_id != run_id:
            return download(tracking, run, artifact, directory)
        raise StageError(f"artifact {artifact} cannot be read") from ConnectionResetError("reset by peer")

    with monkeypatch.context() as patched:
        patched.setattr(Tracking, "download", fail)
        with pytest.raises(OutageError, match="a connection was lost"):
            models.promote(fifth)
    assert models.champion == 4
    assert models.promote(fifth)


def test_a_model_that_became_champion_by_hand_before_it_was_compared_has_no_verdict(models):
    run, version = models.train(1, wrong(0, 50))
    models.move_by_hand(version.version)
    with champion_alias(models.tracking, models.conninfo) as alias:
        assert ensure_promoted(models.tracking, alias, run, version, seed=42, attempt=1) == (True, None)


def test_a_champion_whose_run_was_purged_stops_no_training(models, three_champions):
    run, _version = three_champions[2]
    models.client._tracking_client.store._hard_delete_run(run.info.run_id)
    fourth, promoted = models.arrive(4, wrong(0, 0))
    assert (promoted, models.champion) == (False, 3)
    assert models.verdict(fourth)["reason"].startswith("the champion was not made by this pipeline")


def test_a_champion_that_this_pipeline_has_not_made_stays_until_it_is_moved_by_hand(models, three_champions):
    models.client.create_model_version(REGISTERED_MODEL, models.scratch.as_uri())
    models.move_by_hand(4)
    fourth, promoted = models.arrive(4, wrong(0, 30))
    assert (promoted, models.champion) == (False, 4)
    assert "not made by this pipeline" in models.verdict(fourth)["reason"]
    models.roll_back(5, reason="made by this pipeline")
    assert models.champion == 5


@pytest.mark.parametrize(("source", "promoted"), [("the same", False), ("another", True)])
def test_the_anchor_is_of_the_same_source(models, source, promoted):
    models.arrive(1, wrong(0, 0), source=source)
    models.arrive(2, wrong(0, 2), source="the same")
    assert models.arrive(3, wrong(0, 4), source="the same")[1] is promoted
