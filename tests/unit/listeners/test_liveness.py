"""What counts as a sign of life, and what as a silence."""

import itertools
import time

import pytest

from listeners import liveness
from listeners.liveness import Silence, send_signs_of_life


class EnoughError(Exception):
    """Ends the thread of the signs of life, which ends by nothing else."""


@pytest.fixture
def clock(monkeypatch):
    """Moves the time: `clock(30)`."""

    def move(seconds):
        monkeypatch.setattr(time, "monotonic", lambda: seconds)

    move(0)
    return move


def test_a_silence_is_counted_until_its_end(clock):
    silence = Silence(longest_step_s=10)
    clock(4)
    silence.look()
    clock(9)
    assert silence.look() == 9
    silence.end()
    clock(10)
    assert silence.look() == 1


def test_a_pause_of_the_observer_itself_is_no_silence(clock):
    silence = Silence(longest_step_s=10)
    clock(3600)  # as after `docker pause`, or on a machine that was suspended
    assert silence.look() == 10


@pytest.fixture
def signs(monkeypatch, tmp_path):
    """The signs of life of a process whose main thread has these states, one after the other."""

    def of(states, cpu_s=()):
        (tmp_path / "status").touch()
        upcoming, sent = iter(states), []

        def next_state(_seconds=None):
            try:
                state, switches = next(upcoming)
            except StopIteration:
                raise EnoughError from None
            (tmp_path / "status").write_text(
                f"Name:\tpython\nState:\t{state} (any)\nvoluntary_ctxt_switches:\t{switches}\n"
            )

        times = itertools.count()
        monkeypatch.setattr(time, "monotonic", lambda: float(next(times)))
        used = itertools.chain(cpu_s, itertools.repeat(0.0))
        monkeypatch.setattr(time, "process_time", lambda: next(used))
        monkeypatch.setattr(time, "sleep", next_state)
        next_state()
        with pytest.raises(EnoughError):
            send_signs_of_life(sent.append, tmp_path)
        return sent

    return of


def test_a_process_that_runs_gives_signs_of_life(signs):
    assert len(signs([("S", 1), ("R", 2), ("S", 3)])) == 3


def test_a_main_thread_that_stays_in_one_uninterruptible_wait_gives_none(signs):
    assert len(signs([("S", 1), ("D", 2), ("D", 2), ("D", 2)])) == 2


def test_a_main_thread_that_is_often_in_such_waits_gives_signs_of_life(signs):
    assert len(signs([("D", 1), ("D", 2), ("D", 3)])) == 3


def test_a_sign_of_life_says_for_how_long_the_process_has_only_waited(signs):
    states = [("S", number) for number in range(5)]
    waiting = signs(states, [1.0, 1.0, 1.0005, 1.5, 1.5])
    assert waiting == sorted(waiting[:3]) + waiting[3:]
    assert waiting[2] > 0
    assert waiting[3] < waiting[2]


def test_a_process_whose_other_processes_get_further_does_not_only_wait(signs):
    def idle_until_the_fourth_look():
        yield from (0.0, 0.0, 0.0)
        liveness.PROGRESS.note()

    waiting = signs([("S", number) for number in range(5)], idle_until_the_fourth_look())
    assert waiting[2] > 0
    assert waiting[3] < waiting[2]


def test_where_the_system_shows_no_state_of_a_thread_it_counts_as_running(monkeypatch, tmp_path):
    assert liveness._uninterruptible_wait(tmp_path / "nothing") == ""
