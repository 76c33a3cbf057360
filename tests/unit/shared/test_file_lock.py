"""Whoever waits for a file's lock waits for a bounded time, and learns who holds the lock."""

import os
import signal
import subprocess
import sys

import pytest

from db.embedded.cluster import Cluster
from listeners.tracking import runs
from shared.config import read_settings
from shared.errors import DatabaseUnavailableError, OutageError
from shared.file_lock import FileLockedError, file_lock

HOLD = (
    "import sys, pathlib, time; from shared.file_lock import file_lock\n"
    "with file_lock(pathlib.Path(sys.argv[1]), timeout_s=9): print('held', flush=True); time.sleep(600)"
)


@pytest.fixture
def frozen_holder():
    """Another process that holds a lock and is frozen, as by Ctrl-Z."""
    holders = []

    def hold(path):
        holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGSTOP)
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.communicate()


def test_the_holder_of_a_lock_is_named_and_its_end_releases_the_lock(frozen_holder, tmp_path):
    path = tmp_path / "lock"
    holder = frozen_holder(path)
    with (
        pytest.raises(FileLockedError, match=f"process {holder.pid} on .* has held the lock {path}") as error,
        file_lock(path, timeout_s=0.1),
    ):
        pass
    assert "kill -9" in error.value.remedy
    holder.kill()
    holder.wait()
    with file_lock(path, timeout_s=5):
        assert path.read_text().startswith(f"process {os.getpid()} ")


def test_who_keeps_commands_from_mlflows_store_is_named(frozen_holder, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_INIT_LOCK_TIMEOUT_S", 0.1)
    settings = read_settings(state_path=tmp_path, _env_file=None)
    settings.mlflow_path.mkdir()
    holder = frozen_holder(settings.mlflow_path / ".lock")
    with pytest.raises(OutageError, match=f"process {holder.pid} "):
        runs.Tracking(settings)


def test_who_keeps_the_embedded_server_from_starting_is_named(frozen_holder, tmp_path):
    holder = frozen_holder(tmp_path / "lock")
    with (
        pytest.raises(DatabaseUnavailableError, match=f"process {holder.pid} "),
        Cluster(tmp_path).lock(timeout_s=0.1),
    ):
        pass


def test_a_lock_whose_file_cannot_be_written_is_a_lock(monkeypatch, tmp_path):
    def full(_descriptor, _data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with (
        file_lock(tmp_path / "lock", timeout_s=5),
        pytest.raises(FileLockedError, match="another process"),
        file_lock(tmp_path / "lock", timeout_s=0.1),
    ):
        pass
