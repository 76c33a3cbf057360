"""`rakuten status --storage` measures what PostgreSQL cannot see, too, and the doctor warns before the disk is full."""

import json
import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from psycopg.types.json import Jsonb

from db.database import Role
from shared.disk import measure_disk


@pytest.fixture
def status(rakuten_as, database, settings):
    """Runs the command in a STATE_PATH: `status()["places"]["logs"]`."""

    def run(state: Path = settings.state_path) -> dict:
        moved = settings.model_copy(update={"state_path": state})
        result = rakuten_as(database.conninfo(Role.READER), moved)("status", "--storage", "--json")
        assert result.exit_code == 0, result.output
        shown = json.loads(result.stdout)
        return shown | {"places": {place["object"]: place for place in shown["places"]}}

    return run


@pytest.fixture
def publish(as_role):
    """Record the size of a batch's dataset."""

    def record(batch_id: int, size: int) -> None:
        result = {"run_id": "r", "artifact_bytes": {"train_week_1.parquet": size, "drift_sample.parquet": 0}}
        with as_role(Role.SNAPSHOT) as snapshot:
            snapshot.execute("select claim_stage(%s, 'snapshot', 'w', 'start', '0')", [batch_id])
            snapshot.execute("select finish_stage(%s, 'snapshot', 1, %s)", [batch_id, Jsonb(result)])

    return record


def test_an_empty_database_has_sizes_and_no_growth(status, settings, reader):
    shown = status()
    assert shown["places"][reader.info.dbname]["bytes"] > 0
    assert (shown["bytes_per_week"], shown["days_left"]) == (None, None)
    assert shown["weeks_to_come"] == settings.last_week
    assert shown["disk"]["path"] == str(settings.state_path)


def test_everything_grows_by_what_each_place_grows(status, settings, load_weeks, publish):
    for batch_id, size in zip(load_weeks(3), (1000, 2000, 4000), strict=True):
        publish(batch_id, size)
    shown = status()
    places = shown["places"]
    assert places["datasets"]["bytes_per_week"] == places["training_snapshots"]["bytes_per_week"] == 3000
    [database] = [place for place in places.values() if place["kind"] == "database"]
    assert shown["bytes_per_week"] == database["bytes_per_week"] + 6000
    assert shown["weeks_to_come"] == settings.last_week - 3
    assert math.isclose(shown["days_left"], 7 * shown["disk"]["free_bytes"] / shown["bytes_per_week"])


def test_files_in_the_state_folder_are_measured(status, settings, load_weeks, publish):
    for batch_id in load_weeks(2):
        publish(batch_id, 1000)
    assert status()["places"]["training_snapshots"]["bytes"] == 2000  # as recorded
    for path in (
        settings.logs_path / "a/b.log",
        settings.openlineage_path,
        settings.snapshots_path / "c.parquet",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 70)
    places = status()["places"]
    assert [places[name]["bytes"] for name in ("logs", "openlineage.jsonl", "training_snapshots")] == [70] * 3


def test_the_table_says_what_everything_takes(rakuten_as, database, settings, load_weeks):
    load_weeks(2)
    shown = rakuten_as(database.conninfo(Role.READER), settings)("status", "--storage").stdout
    assert "write-ahead log" in shown
    assert "a week." in shown
    assert "weeks still to load need about" in shown


def test_the_ledger_and_the_storage_are_two_tables(rakuten_as, database, settings):
    refused = rakuten_as(database.conninfo(Role.READER), settings)("status", "--storage", "--ledger")
    assert refused.exit_code == 2


def test_the_doctor_warns_of_a_disk_that_will_be_full_until_the_state_is_moved_to_a_larger_one(
    rakuten_as, database, settings, load_weeks, publish, tmp_path
):
    """The growth is chosen so that less than two weeks of it fit on the smaller one of two disks of this machine."""
    shared_memory = Path("/dev/shm")  # noqa: S108  the second disk
    if not os.access(shared_memory, os.W_OK) or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk: /dev/shm")
    with TemporaryDirectory(dir=shared_memory) as other:
        small, large = sorted((Path(other), tmp_path), key=lambda path: measure_disk(path).free_bytes)
        free, larger = measure_disk(small).free_bytes, measure_disk(large).free_bytes
        if larger < 1.5 * free:
            pytest.skip("the two disks have the same free space")
        growth = math.isqrt(free * larger) // 2  # of the dataset and its copy together
        for batch_id in load_weeks(2):
            publish(batch_id, growth // 2)

        def findings(state: Path) -> list[str]:
            moved = settings.model_copy(update={"state_path": state})
            moved.snapshots_path.mkdir(parents=True)
            doctor = rakuten_as(database.conninfo(Role.READER), moved)("doctor", "--json")
            return [
                found["subject"]
                for found in json.loads(doctor.stdout)
                if found["finding"] == "the disk will be full soon"
            ]

        assert findings(small / "state") == [str(small / "state")]
        assert findings(large / "state") == []
