"""No clock decides which model is champion: batches have their order from the hash chain, whatever time they were stamped with."""

import pytest
from champion_models import wrong


@pytest.mark.parametrize("ahead", ["1 day", "-1 day"])
def test_a_batch_that_a_wrong_clock_has_stamped_keeps_no_later_model_out(models, ahead):
    models.arrive(1, wrong(0, 50), ahead=ahead)
    _second, promoted = models.arrive(2, wrong(0, 40))
    assert (promoted, models.champion) == (True, 2)


def test_an_earlier_batch_stays_earlier_though_a_clock_was_ahead(models):
    first = models.train(1, wrong(0, 40), ahead="1 day")
    models.arrive(2, wrong(0, 50))
    assert not models.promote(first)
    assert models.verdict(first)["reason"] == "the champion was trained on a later batch"


@pytest.mark.parametrize("ahead", ["1 day", "-1 day"])
def test_a_rollback_withdraws_the_later_batches_whatever_their_time(models, ahead):
    models.arrive(1, wrong(0, 60), ahead=ahead)
    models.arrive(2, wrong(0, 55))
    third, _promoted = models.arrive(3, wrong(0, 50))
    models.roll_back(1)
    assert list(models.state.withdrawn) == [2, 3]
    assert not models.promote(third)
    fourth, promoted = models.arrive(4, wrong(0, 60), ahead="-2 days")
    assert promoted, models.verdict(fourth)


def test_a_champion_of_a_batch_that_postgresql_has_lost_keeps_no_model_out(models, three_champions):
    """After a restore, the numbers of the lost batches are given again, to other batches."""
    models.lose(2, 3)
    again, promoted = models.arrive(4, wrong(0, 40))  # the second batch of this chain
    assert (promoted, models.champion) == (True, 4), models.verdict(again)
