"""A listener counts as alive for a while after each proof that it hears, and not a moment longer."""

import os
import subprocess
import sys
import tempfile
import time

import pytest

from listeners.health import Heartbeat, problem


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def clock(monkeypatch):
    """Moves the time: `clock(30)`."""
    now = time.time()

    def move(seconds):
        monkeypatch.setattr(time, "time", lambda: now + seconds)

    move(0)
    return move


def test_it_is_not_alive_before_its_first_beat():
    assert "has not listened yet" in problem("snapshot")


def test_it_is_alive_until_the_heartbeat_is_overdue(clock):
    Heartbeat("snapshot", valid_for_s=24).beat()
    clock(23)
    assert problem("snapshot") is None
    clock(34)
    assert "10 s overdue" in problem("snapshot")


def test_the_next_beat_makes_it_alive_again(clock):
    heartbeat = Heartbeat("snapshot", valid_for_s=24)
    heartbeat.beat()
    clock(100)
    heartbeat.beat()
    assert problem("snapshot") is None


def test_it_is_not_alive_after_its_end():
    heartbeat = Heartbeat("snapshot", valid_for_s=24)
    heartbeat.beat()
    heartbeat.end()
    heartbeat.end()
    assert problem("snapshot")


def test_the_stages_do_not_speak_for_each_other():
    Heartbeat("snapshot", valid_for_s=24).beat()
    assert problem("training")


def test_a_listener_that_cannot_write_works_on(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    heartbeat = Heartbeat("snapshot", valid_for_s=24)
    heartbeat.beat()
    heartbeat.end()
    assert problem("snapshot")


def check(stage):
    return subprocess.run(
        [sys.executable, "-m", "listeners.health", stage],
        env=os.environ.copy(),  # noqa: TID251
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_it_with_its_exit_code():
    refused = check("snapshot")
    assert refused.returncode == 1
    assert "has not listened yet" in refused.stderr
    Heartbeat("snapshot", valid_for_s=60).beat()
    assert check("snapshot").returncode == 0
