"""Whoever loads or corrects tells it as OpenLineage events, without being asked to."""

import openlineage_reader
import psycopg
import pytest

from db.database import Role


@pytest.fixture
def rakuten(database, settings, rakuten_as):
    """As the loader."""
    return rakuten_as(database.conninfo(Role.LOADER), settings)


def test_each_week_and_each_correction_is_a_run_of_the_job_load(rakuten, database, settings, tmp_path):
    assert rakuten("load", "--week", 2).exit_code == 0
    with psycopg.connect(database.conninfo(Role.READER)) as connection:
        [productid] = connection.execute("select min(productid) from products").fetchone()
    file = tmp_path / "titles.csv"
    file.write_text(f"productid,designation\n{productid},Another title\n")
    assert rakuten("correct", file, "--check").exit_code == 0  # which changes nothing, and so is no run
    assert rakuten("correct", file).exit_code == 0
    events = openlineage_reader.read(settings.openlineage_path)
    assert [event.eventType.value for event in events] == ["START", "COMPLETE"] * 3
    assert {event.job.name for event in events} == {"load"}
    assert len({event.run.runId for event in events}) == 3
    assert [item.name for item in events[-1].inputs] == ["titles.csv"]
