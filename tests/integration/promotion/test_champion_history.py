"""What is remembered of the champions, also when one is moved by hand, a worker is killed, or several move at once."""

import threading

import pytest
from champion_models import wrong
from waiting import eventually

from db.locks import Lock
from listeners.promotion.champion_history import REASON_LENGTH, champion_history
from shared.errors import PipelineError, StageError
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL


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


def test_the_longest_reason_fits_into_the_column_of_mlflow_s_table(models, three_champions):
    models.roll_back(reason="\x01" * REASON_LENGTH)
    tags = models.client.get_registered_model(REGISTERED_MODEL).tags
    assert max(map(len, tags.values())) < 5000
    assert champion_history(models.tracking)[-1].reason == "\x01" * REASON_LENGTH


def test_an_entry_that_somebody_has_changed_is_named(models, three_champions):
    [name] = [
        name
        for name in models.client.get_registered_model(REGISTERED_MODEL).tags
        if name.startswith("champion_history.0002.")
    ]
    correct = models.client.get_registered_model(REGISTERED_MODEL).tags[name]
    models.client.set_registered_model_tag(REGISTERED_MODEL, name, "{}")
    with pytest.raises(StageError, match=r"somebody has changed the tag champion_history.0002"):
        models.roll_back()
    models.client.set_registered_model_tag(REGISTERED_MODEL, name, correct)
    models.roll_back()
    assert models.champion == 2


def test_a_standing_keeps_champions_in_the_order_of_their_batches(models, three_champions):
    models.roll_back(1)
    models.roll_back(3)
    assert (list(models.state.champions), list(models.state.withdrawn)) == ([1, 3], [2])


def test_a_version_that_is_registered_by_hand_withdraws_no_earlier_champion(models, three_champions):
    run, _version = three_champions[2]
    source = f"runs:/{run.info.run_id}/model"
    models.client.create_model_version(REGISTERED_MODEL, source, run_id=run.info.run_id)
    models.move_by_hand(4)
    models.arrive(4, wrong(0, 30))
    assert not models.state.withdrawn


# ---- killed in between


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
    with pytest.raises(PipelineError, match=r"interrupted.*the champion is version 2"):
        models.roll_back()
    assert (models.champion, models.moves[-1]) == (2, ("rollback", 3, 2))
    assert not models.promote(three_champions[2])


# ---- at once


def test_a_move_waits_until_the_one_before_is_done(models, three_champions):
    with models.session() as other:
        other.execute("select pg_advisory_lock(%s)", [Lock.CHAMPION])
        mover = threading.Thread(target=models.roll_back)
        mover.start()
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        eventually(lambda: other.execute(waiting).fetchone() != (0,))
        assert models.champion == 3
        other.execute("select pg_advisory_unlock(%s)", [Lock.CHAMPION])
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
