"""A task survives the loss of its connection to PostgreSQL, and reads the same rows again."""

import pytest

from db.database import Role
from db.sql import query

pytest.importorskip("pyspark")

from listeners.snapshot.spark.read import Source


def test_a_task_connects_again_after_postgresql_has_ended_its_connection(load_weeks, database, as_superuser):
    load_weeks(1)
    statement = query("snapshot/entry_texts")
    with (
        Source(database.conninfo(Role.SNAPSHOT), 1).reader() as reader,
        as_superuser(autocommit=True) as admin,
    ):
        before = reader.read(statement, 0, 50)
        ended = admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rakuten snapshot task'"
        ).fetchall()
        assert ended == [(True,)]
        assert reader.read(statement, 0, 50) == before
    ids = [number for batch in before for number in batch["history_id"].to_pylist()]
    assert ids == sorted(ids)
    assert ids
    assert max(ids) <= 50
