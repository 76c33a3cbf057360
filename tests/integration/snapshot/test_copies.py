"""The copies of the datasets, for people and for the next build, are optional: a folder that is out of order fails no dataset."""

import errno
import shutil

import pytest
from jobs import claim_job, finish
from structlog.testing import capture_logs

from db.database import Role
from listeners import reconcile
from listeners.job import Task
from listeners.snapshot import copies, earlier
from listeners.snapshot import handle as snapshot
from shared.events import Stage
from shared.hashing import sha256_of


@pytest.fixture
def build(database, settings, load_weeks):
    """Build the next week's dataset and record it, as a worker does; returns the result."""

    def build_next():
        [batch_id] = load_weeks(1)
        job = claim_job(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), settings, batch_id)
        result = snapshot.handle(job)
        finish(job, result)
        return result

    return build_next


@pytest.fixture
def folder(settings):
    """The folder of the copies, at first a file: nothing can be written into it, whoever tries."""
    settings.state_path.mkdir(parents=True, exist_ok=True)
    settings.snapshots_path.touch()
    return settings.snapshots_path


def test_a_dataset_without_its_copy_is_finished_and_the_next_job_makes_the_copy(build, folder):
    first = build()
    assert "copy_error" in first
    folder.unlink()
    second = build()
    assert "copy_error" not in second
    for result in (first, second):
        assert sha256_of(folder / f"{result['dataset']}.parquet") == result["dataset_sha256"]
    assert sorted(path.name for path in folder.iterdir()) == ["train_week_1.parquet", "train_week_2.parquet"]
    (folder / "train_week_2.parquet").unlink()  # by a person: it had been made, so it is not made again
    build()
    assert not (folder / "train_week_2.parquet").exists()


def test_a_listener_that_starts_makes_the_missing_copies(build, folder, database, settings):
    result = build()
    folder.unlink()
    reconcile.handle(Task(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), settings, ""))
    assert sha256_of(folder / "train_week_1.parquet") == result["dataset_sha256"]


def test_a_full_disk_leaves_no_half_copy(tmp_path, monkeypatch):
    def fill_the_disk(_source, target):
        target.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill_the_disk)
    kept = copies.keep_copy(tmp_path / "train_week_1.parquet", tmp_path / "copies")
    assert "No space left" in kept["copy_error"]
    assert list((tmp_path / "copies").iterdir()) == []


def test_an_earlier_dataset_that_cannot_be_read_is_not_built_on(build, monkeypatch):
    build()

    def broken_disk(_path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(earlier, "sha256_of", broken_disk)
    with capture_logs() as logs:
        build()
    [building] = [entry for entry in logs if entry["event"] == "building"]
    assert building["built_on"] is None
