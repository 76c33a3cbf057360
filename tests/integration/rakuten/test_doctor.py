"""The doctor names each thing that is wrong, with a remedy, and nothing else."""

from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from db.batches import listening_application, pipeline_doctor
from db.connect import connect
from db.database import Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from shared.config import read_settings


@pytest.fixture
def findings(database):
    def look(**limits):
        with database.connect(Role.READER, "test") as connection:
            found = pipeline_doctor(connection, **limits)
        assert all(finding["remedy"] for finding in found)
        return {finding["finding"]: finding["subject"] for finding in found}

    return look


@pytest.fixture
def listening(database):
    """Sessions that look like the two listeners'."""

    @contextmanager
    def opened(*stages):
        sessions = [
            psycopg.connect(
                database.conninfo(Role[stage.upper()]), application_name=listening_application(stage)
            )
            for stage in stages
        ]
        try:
            yield
        finally:
            for session in sessions:
                session.close()

    return opened


@pytest.fixture
def as_snapshot(database):
    with connect(database.conninfo(Role.SNAPSHOT), "test", autocommit=True) as connection:
        yield connection


def claim(connection, batch_id):
    connection.execute("select claim_stage(%s, 'snapshot', 'host:1', 'notify', '0 s')", [batch_id])


def test_a_missing_listener_is_named(findings, listening):
    assert list(findings()) == ["no listener"]  # of both
    with listening("snapshot", "training"):
        assert findings() == {}


def test_an_unresponsive_listener_is_named(findings, listening):
    with listening("snapshot", "training"):
        assert findings() == {}
        assert list(findings(unresponsive_after=timedelta(0))) == ["unresponsive listener"]  # both


@pytest.fixture
def model_server(database):
    """A session that looks like a model server's."""

    @contextmanager
    def opened(state):
        with connect(database.conninfo(Role.SERVER), f"rakuten server{state}"):
            yield

    return opened


def test_a_model_server_that_refuses_the_champion_serves_another_or_is_silent_is_named(
    findings, listening, model_server, as_superuser
):
    with as_superuser() as connection:
        connection.execute(
            "insert into champion_moves (move_sha256, number, kind, to_version, moved_at, moved_by, reason)"
            " values ('x', 1, 'promotion', 4, now(), 'somebody', 'better')"
        )
    with listening("snapshot", "training"):
        with model_server(" 4"), model_server(" 4 is not a server's name"):
            assert findings(patience=timedelta(0)) == {}
            assert "unresponsive model server" in findings(unresponsive_after=timedelta(0))
        with model_server(" 3 refuses 4"):
            assert findings() == {"model server refuses the champion": "version 4"}
        with model_server(" 3"):
            assert findings() == {}
            assert list(findings(patience=timedelta(0))) == ["model server serves another version"]


def test_a_stage_that_takes_long_is_named(findings, listening, load_weeks, as_snapshot):
    [batch_id] = load_weeks(1)
    claim(as_snapshot, batch_id)
    with listening("snapshot", "training"):
        assert findings() == {}
        assert findings(patience=timedelta(0)) == {"stage takes long": "week_1 snapshot"}


def test_an_outage_is_named_until_the_stage_is_through(findings, listening, load_weeks, as_snapshot):
    [batch_id] = load_weeks(1)
    claim(as_snapshot, batch_id)
    as_snapshot.execute(
        "select postpone_stage(%s, 'snapshot', 1, 'MLflow is away', '0 s', '0 s')", [batch_id]
    )
    with listening("snapshot", "training"):
        assert findings() == {"outage": "week_1 snapshot"}
        claim(as_snapshot, batch_id)
        assert findings() == {"outage": "week_1 snapshot"}
        as_snapshot.execute("select finish_stage(%s, 'snapshot', 2, '{\"run_id\": \"x\"}')", [batch_id])
        assert findings() == {}


def test_a_load_that_does_not_end_is_named(findings, listening, as_role):
    with as_role(Role.LOADER) as connection:
        connection.execute("select claim_batch('week_1', 40, '{}')")
    with listening("snapshot", "training"):
        assert findings() == {}
        assert findings(patience=timedelta(0)) == {"load not finished": "week_1"}


def test_a_batch_that_nobody_takes_up_is_a_missed_wake_up(findings, listening, load_weeks, as_superuser):
    load_weeks(1)
    with as_superuser() as connection:
        connection.execute("alter table data_loads disable trigger all")
        connection.execute("update data_loads set completed_at = completed_at - interval '1 hour'")
        connection.execute("alter table data_loads enable trigger all")
    with listening("snapshot", "training"):
        assert findings() == {"missed wake-up": "week_1 snapshot"}


def test_a_stage_that_was_given_up_and_a_claim_whose_worker_died_are_named(
    findings, listening, load_weeks, as_snapshot, database
):
    first, second = load_weeks(2)
    claim(as_snapshot, first)
    as_snapshot.execute("select fail_stage(%s, 'snapshot', 1, 'no space left', null)", [first])
    with connect(database.conninfo(Role.SNAPSHOT), "test", autocommit=True) as dying:
        claim(dying, second)
        with listening("snapshot", "training"):
            assert findings() == {"stage given up": "week_1 snapshot"}
    with listening("snapshot", "training"):
        assert findings() == {
            "stage given up": "week_1 snapshot",
            "claim without a worker": "week_2 snapshot",
        }


def test_a_failed_load_is_named(findings, listening, as_role):
    with as_role(Role.LOADER) as connection:
        [batch_id] = connection.execute("select claim_batch('week_1', 40, '{}')").fetchone()
        connection.execute("select fail_batch(%s, 'disk full')", [batch_id])
    with listening("snapshot", "training"):
        assert findings() == {"load failed": "week_1"}


def test_changes_outside_any_batch_and_around_the_audit_are_told_apart(
    findings, listening, load_weeks, as_superuser
):
    load_weeks(1)
    with as_superuser() as connection:
        connection.execute("update products set designation = 'corrected' where sample_rank = 0")
    with listening("snapshot", "training"):
        assert findings() == {"changes outside any batch": "1 of products, 0 of labels"}
    with as_superuser() as connection:
        connection.execute("alter table products disable trigger all")
        connection.execute("update products set designation = 'tampered' where sample_rank = 1")
        connection.execute("alter table products enable trigger all")
    with listening("snapshot", "training"):
        assert findings()["history does not match the products"] == "1 products"


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("update products set description = null where id = 1", {("products", 1)}),
        ("update products set productid = -1 where id = 1", {("products", 1)}),
        ("delete from labels where id in (1, 2)", {("labels", 1), ("labels", 2)}),
        ("insert into labels overriding system value values (0, 0, 10)", {("labels", 0)}),
        ("update products set imageid = imageid", set()),
    ],
)
def test_each_row_that_differs_from_the_history_is_found_once(change, changed, load_weeks, as_superuser):
    load_weeks(1)
    with as_superuser() as connection:
        for table in ("products", "labels"):
            connection.execute(f"alter table {table} disable trigger all")
        connection.execute(change)
        found = connection.execute("select table_name, id from internal.unrecorded_changes()").fetchall()
    assert sorted(found) == sorted(changed)


def test_a_product_without_a_label_is_named(findings, listening, load_weeks, as_superuser):
    load_weeks(1)
    with as_superuser() as connection:
        connection.execute(
            "delete from labels where productid = (select productid from products where sample_rank = 5)"
        )
    with listening("snapshot", "training"):
        assert findings()["products without a label"] == "1 products"


def test_a_filling_notification_queue_is_named(server, tmp_path):
    """On a server of its own, whose queue is as small as PostgreSQL allows."""
    if server.version < 17:
        pytest.skip("the size of the queue is fixed at 8 GB before PostgreSQL 17")
    settings = read_settings(_env_file=None)
    small = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    with small, psycopg.connect(small.conninfo(), autocommit=True) as connection:
        connection.execute("alter system set max_notify_queue_pages = 64")
    with small:
        database = prepare_embedded(settings, small)
        with (
            psycopg.connect(database.conninfo(Role.READER)) as sleeper,
            psycopg.connect(small.conninfo(settings.postgres_db), autocommit=True) as connection,
            database.connect(Role.READER, "test") as reader,
        ):
            sleeper.execute("listen batch_completed")
            sleeper.commit()
            sleeper.execute("select 1")  # in a transaction it hears nothing, and the queue is kept for it
            connection.execute(
                "select pg_notify('batch_completed', repeat('x', 7000) || n) from generate_series(1, 20) n"
            )
            assert {row["finding"]: row["subject"] for row in pipeline_doctor(reader)}[
                "notification queue fills up"
            ]
