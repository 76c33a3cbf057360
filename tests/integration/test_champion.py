"""Who becomes champion, who comes back, and what is remembered of it: on a real registry, by models that are only predictions."""

import json
import re
import shlex
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from db.connect import connect
from db.database import Role
from listeners.mlflow_runs import Tracking
from listeners.training import registry
from listeners.training.champion import REASON_LENGTH, AliasState, Kind, champion_history
from listeners.training.promote import ensure_promoted, verdict_sha256
from listeners.training.rollback import roll_back
from shared.config import read_settings
from shared.errors import BadInputError, OutageError, PipelineError, StageError
from shared.mlflow_names import (
    CHAMPION,
    HOLDOUT_PREDICTIONS,
    MODEL_EXPERIMENT,
    PROMOTION,
    REGISTERED_MODEL,
    TAG_BATCH_COMPLETED_AT,
    TAG_BATCH_ID,
    TAG_SOURCE_SHA256,
    model_run_name,
)

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROWS = 1000
CODES = np.array([10, 40, 50, 60])
TRUTH = np.repeat(CODES, [400, 300, 260, 40])


def wrong(first, count):
    """Predictions that are wrong on `count` rows from `first` on."""
    predictions = TRUTH.copy()
    rows = slice(first, first + count)
    predictions[rows] = np.roll(CODES, -1)[np.searchsorted(CODES, TRUTH[rows])]
    return predictions


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory):
    """MLflow takes seconds to make its tables: they are made once, and copied for each test."""
    state = tmp_path_factory.mktemp("empty")
    Tracking(read_settings(state_path=state, mlflow_tracking_uri=None, _env_file=None))
    return state / "mlflow"


class Models:
    """The training stage's last steps, for models that are a column of predictions."""

    def __init__(self, database, settings, tmp_path):
        self.tracking = Tracking(settings)
        self.client = self.tracking.client
        self.conninfo = database.conninfo(Role.TRAINING)
        self.scratch = tmp_path

    def session(self):
        return connect(self.conninfo, "test", autocommit=True)

    def train(self, week, predictions, source="source"):
        """The run and the registered version of a week's model."""
        completed_at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(weeks=week)).isoformat()
        tags = {TAG_BATCH_ID: str(week), TAG_BATCH_COMPLETED_AT: completed_at, TAG_SOURCE_SHA256: source}
        experiment = self.tracking.experiment_id(MODEL_EXPERIMENT)
        run = self.client.create_run(experiment, run_name=model_run_name(f"week_{week}"), tags=tags)
        columns = {"productid": np.arange(ROWS), "prdtypecode": TRUTH, "prediction": predictions}
        path = self.scratch / HOLDOUT_PREDICTIONS
        pd.DataFrame(columns).to_parquet(path)
        self.client.log_artifact(run.info.run_id, str(path))
        self.client.log_metric(run.info.run_id, "f1_score", f1_score(TRUTH, predictions, average="weighted"))
        self.client.set_terminated(run.info.run_id, "FINISHED")
        if not self.client.search_registered_models(f"name = '{REGISTERED_MODEL}'"):
            self.client.create_registered_model(REGISTERED_MODEL)
        version = self.client.create_model_version(
            REGISTERED_MODEL, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id, tags=tags
        )
        return self.client.get_run(run.info.run_id), version

    def promote(self, model):
        with self.session() as connection:
            return ensure_promoted(self.tracking, connection, *model, seed=42)

    def arrive(self, week, predictions, **options):
        """A week's model, trained and compared; returns it and whether it became champion."""
        model = self.train(week, predictions, **options)
        return model, self.promote(model)

    def roll_back(self, to_version=None, reason="labels of week 3 are wrong"):
        with self.session() as connection:
            return roll_back(self.tracking, connection, to_version, reason=reason, by="somebody")

    @property
    def champion(self):
        holder = registry.champion(self.tracking)
        return None if holder is None else int(holder.version)

    @property
    def moves(self):
        return [(move.kind, move.from_version, move.to_version) for move in champion_history(self.tracking)]

    def verdict(self, model):
        run, _version = model
        return json.loads(self.tracking.download(run, PROMOTION, self.scratch).read_text())

    def move_by_hand(self, version):
        self.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, str(version))


@pytest.fixture
def models(database, settings, empty_mlflow, tmp_path):
    shutil.copytree(empty_mlflow, settings.state_path / "mlflow")
    return Models(database, settings, tmp_path)


@pytest.fixture
def three_champions(models):
    """Versions 1, 2 and 3 of weeks 1, 2 and 3, each a little better than the last."""
    return [models.arrive(week, wrong(0, 60 - 5 * week))[0] for week in (1, 2, 3)]


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
    for week, rows in enumerate(losses):
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


def test_a_rollback_goes_to_the_champion_before_and_keeps_who_and_why(models, three_champions):
    move = models.roll_back(reason=" labels of week 3 are wrong ")
    assert models.champion == 2
    assert move == champion_history(models.tracking)[-1]
    assert (move.kind, move.from_version, move.to_version) == (Kind.ROLLBACK, 3, 2)
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
    assert models.promote((run, version))
    assert verdict_sha256(models.tracking, run) is None
    (second, _version), _promoted = models.arrive(2, wrong(0, 49))
    assert verdict_sha256(models.tracking, second) is not None


def test_a_champion_whose_run_was_purged_stops_no_training(models, three_champions):
    run, _version = three_champions[2]
    models.client._tracking_client.store._hard_delete_run(run.info.run_id)
    fourth, promoted = models.arrive(4, wrong(0, 0))
    assert (promoted, models.champion) == (False, 3)
    assert models.verdict(fourth)["reason"].startswith("the champion was not made by this pipeline")


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
        (1, "x" * 701, "this one has 701"),
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


def test_without_a_registered_model_there_is_nothing_to_roll_back(models):
    with pytest.raises(PipelineError, match="no champion before"):
        models.roll_back()
    assert models.moves == []


def test_a_move_by_hand_is_noticed_and_means_the_same(models, three_champions):
    models.move_by_hand(2)
    assert not models.promote(three_champions[2])
    assert models.champion == 2
    assert models.moves[-1] == ("by hand", 3, 2)


def test_a_champion_from_before_the_history_is_its_beginning(models):
    models.train(1, wrong(0, 50))
    models.move_by_hand(1)
    models.arrive(2, wrong(0, 40))
    assert models.moves == [("by hand", None, 1), ("promotion", 1, 2)]
    models.roll_back()
    assert models.champion == 1


def test_without_the_alias_all_begins_anew(models, three_champions):
    models.roll_back()
    models.client.delete_registered_model_alias(REGISTERED_MODEL, CHAMPION)
    assert models.promote(three_champions[2])
    assert models.moves[-2:] == [("by hand", 2, None), ("promotion", None, 3)]


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


@pytest.fixture
def dies(models, monkeypatch):
    """Kills a worker at its n-th call of a method of MLflow's client; it is alive again afterwards."""

    class Killed(BaseException):
        pass

    def at(method, call, work):
        calls, original = [], getattr(models.client, method)

        def count(*arguments):
            calls.append(arguments)
            if len(calls) == call:
                raise Killed
            return original(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(models.client, method, count)
            with pytest.raises(Killed):
                work()

    return at


SET_TAG, SET_ALIAS = "set_registered_model_tag", "set_registered_model_alias"


@pytest.mark.parametrize(("method", "call"), [(SET_TAG, 1), (SET_ALIAS, 1), (SET_TAG, 2)])
def test_a_promotion_that_was_killed_is_done_once_by_the_next_attempt(
    models, three_champions, dies, method, call
):
    fourth = models.train(4, wrong(0, 30))
    dies(method, call, lambda: models.promote(fourth))
    assert models.promote(fourth)
    assert models.champion == 4
    assert models.moves[-1] == ("promotion", 3, 4)
    assert [move.number for move in champion_history(models.tracking)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("method", "call"), [(SET_TAG, 1), (SET_ALIAS, 1)])
def test_a_rollback_that_was_killed_before_it_moved_the_alias_has_not_happened(
    models, three_champions, dies, method, call
):
    dies(method, call, models.roll_back)
    assert (models.champion, len(models.moves)) == (3, 3)
    models.roll_back()
    assert (models.champion, models.moves[-1]) == (2, ("rollback", 3, 2))


def test_a_rollback_that_was_killed_after_it_moved_the_alias_has_happened(models, three_champions, dies):
    dies(SET_TAG, 2, models.roll_back)
    with pytest.raises(PipelineError, match=r"interrupted.*version 2 is champion"):
        models.roll_back()
    assert (models.champion, models.moves[-1]) == (2, ("rollback", 3, 2))
    assert not models.promote(three_champions[2])


def test_a_move_waits_until_the_one_before_is_done(models, three_champions):
    with models.session() as other:
        other.execute("select pg_advisory_lock(%s)", [0x6368616D70])
        mover = threading.Thread(target=models.roll_back)
        mover.start()
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        deadline = time.monotonic() + 60
        while other.execute(waiting).fetchone() == (0,):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert models.champion == 3
        other.execute("select pg_advisory_unlock(%s)", [0x6368616D70])
        mover.join(60)
    assert models.champion == 2


def test_models_that_finish_at_once_are_compared_one_after_the_other(models):
    models.arrive(1, wrong(0, 60))
    arrived = [models.train(week, wrong(0, 60 - week)) for week in (2, 3, 4, 5)]
    workers = [threading.Thread(target=models.promote, args=[model]) for model in arrived]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert models.champion == 5
    came_from = [from_version for _kind, from_version, _to in models.moves]
    assert came_from == [None, *(to for _kind, _from, to in models.moves[:-1])]


def test_the_longest_reason_fits_into_the_column_of_mlflow_s_table(models, three_champions):
    models.roll_back(reason="\x01" * REASON_LENGTH)
    tags = models.client.get_registered_model(REGISTERED_MODEL).tags
    assert max(map(len, tags.values())) < 5000
    assert champion_history(models.tracking)[-1].reason == "\x01" * REASON_LENGTH


def test_an_entry_that_somebody_has_changed_is_named(models, three_champions):
    models.client.set_registered_model_tag(REGISTERED_MODEL, "champion_history.0002", "{}")
    with pytest.raises(StageError, match=r"champion_history.0002 .* not what rakuten wrote"):
        models.roll_back()


def test_a_standing_keeps_champions_in_the_order_of_their_batches(models, three_champions):
    models.roll_back(1)
    models.roll_back(3)
    state = AliasState(champion_history(models.tracking))
    assert (list(state.champions), list(state.withdrawn)) == ([1, 3], [2])


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


def test_the_readme_s_examples_work(models, three_champions, rakuten):
    lines = re.findall(r"^rakuten ((?:champion|rollback).*)$", README, re.MULTILINE)
    done = [rakuten(*shlex.split(line)) for line in lines]
    assert [result.exit_code for result in done] == [0, 0, 0]
    assert models.moves[-2:] == [("rollback", 3, 2), ("rollback", 2, 3)]


def test_the_commands_say_what_is_wrong(models, rakuten):
    assert rakuten("champion").output == "champion of rakuten_classifier: nobody\n"
    assert rakuten("rollback").exit_code == 2
    assert "--reason" in rakuten("rollback").output
    assert isinstance(rakuten("rollback", "--reason", " ").exception, BadInputError)
    assert isinstance(rakuten("rollback", "--reason", "why").exception, PipelineError)
