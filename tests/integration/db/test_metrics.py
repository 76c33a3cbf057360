"""PostgreSQL computes the numbers of the pipeline from what it has recorded, in one short query."""

import time
from decimal import Decimal

import psycopg
import pytest
from recorded_results import dataset, drift_entry, model, promote, record, record_both

from db.connect import connect
from db.database import Role
from db.sql import query
from shared.events import Stage

BIG_TABLES = ("products", "labels", "products_history", "labels_history")


@pytest.fixture
def metrics(database):
    """Read the numbers as a role's listener reads them: by name and labels."""

    def read(role=Role.TRAINING, max_percentage=100):
        with database.connect(role, "test") as connection:
            rows = connection.execute(
                query("monitoring/pipeline_metrics"), {"max_percentage": Decimal(max_percentage)}
            ).fetchall()
            rows += connection.execute(query("monitoring/storage_metrics")).fetchall()
        found = {(name, *sorted(labels.items())): value for name, labels, value in rows}
        assert len(found) == len(rows)  # Prometheus rejects a page that has a sample twice
        return found

    return read


def of(stage):
    return ("stage", stage)


def test_an_empty_pipeline_has_zeros_and_nothing_that_does_not_exist_yet(metrics):
    found = metrics()
    assert found["rakuten_oldest_waiting_seconds", of("snapshot")] == 0
    assert found["rakuten_batches", of("training"), ("state", "failed")] == 0
    assert found["rakuten_listeners", of("training")] == 0
    assert found["rakuten_commit_to_model_seconds_count",] == 0
    missing = {
        "rakuten_model_f1",
        "rakuten_champion_version",
        "rakuten_rows",
        "rakuten_verification_problems",
    }
    assert not missing & {name for name, *_ in found}


def test_each_listener_reads_the_same_numbers(metrics, load_weeks, database, settings):
    [batch_id] = load_weeks(1)
    record_both(database, settings, batch_id)
    of_snapshot, of_training = (
        {key: value for key, value in metrics(role).items() if key[0] != "rakuten_storage_bytes"}
        for role in (Role.SNAPSHOT, Role.TRAINING)
    )
    assert of_snapshot == of_training


def test_a_batch_is_counted_in_each_state_and_its_age_grows_until_its_stage_has_finished(
    metrics, load_weeks, database, settings
):
    [batch_id] = load_weeks(1)
    loaded = metrics()
    assert loaded["rakuten_batches", of("load"), ("state", "completed")] == 1
    assert loaded["rakuten_batches", of("snapshot"), ("state", "waiting")] == 1
    assert loaded["rakuten_oldest_waiting_seconds", of("snapshot")] > 0
    assert loaded["rakuten_oldest_waiting_seconds", of("training")] == 0  # there is no dataset to train on
    assert (
        metrics()["rakuten_oldest_waiting_seconds", of("snapshot")]
        > loaded["rakuten_oldest_waiting_seconds", of("snapshot")]
    )
    record(database, settings, Stage.SNAPSHOT, batch_id, dataset(1))
    built = metrics()
    assert built["rakuten_batches", of("snapshot"), ("state", "finished")] == 1
    assert built["rakuten_oldest_waiting_seconds", of("snapshot")] == 0
    assert built["rakuten_oldest_waiting_seconds", of("training")] > 0


def test_the_histograms_count_each_batch_once_and_reach_infinity(metrics, load_weeks, database, settings):
    batch_ids = load_weeks(2)
    record_both(database, settings, batch_ids[0])
    found = metrics()
    for name in ("commit_to_wake", "commit_to_dataset", "commit_to_model"):
        buckets = [
            value for (sample, *_), value in found.items() if sample == f"rakuten_{name}_seconds_bucket"
        ]
        assert found[f"rakuten_{name}_seconds_bucket", ("le", "+Inf")] == max(buckets) == 1
        assert found[f"rakuten_{name}_seconds_count",] == 1
        assert found[f"rakuten_{name}_seconds_sum",] >= 0


def test_the_loaded_rows_reach_their_target_at_the_highest_percentage(metrics, load_weeks):
    load_weeks(2)
    assert metrics()["rakuten_rows",] == 600 * 43 // 100
    assert metrics()["rakuten_target_rows",] == 600
    assert metrics(max_percentage=43)["rakuten_target_rows",] == metrics()["rakuten_rows",]
    assert metrics()["rakuten_last_load_timestamp_seconds",] == pytest.approx(time.time(), abs=600)


def test_attempts_failures_and_outages_are_summed(metrics, load_weeks, database):
    load_weeks(1)
    with connect(database.conninfo(Role.SNAPSHOT), "test", autocommit=True) as connection:
        for outcome in (
            "fail_stage(1, 'snapshot', %s, 'x', '0')",
            "postpone_stage(1, 'snapshot', %s, 'x', '0', '0')",
        ):
            [attempt] = connection.execute("select claim_stage(1, 'snapshot', 'w', 'poll', '0')").fetchone()
            connection.execute(f"select {outcome}", [attempt])
    found = metrics()
    assert found["rakuten_attempts", of("snapshot")] == 2
    assert found["rakuten_failures", of("snapshot")] == found["rakuten_outages", of("snapshot")] == 1
    assert found["rakuten_outage_seconds", of("snapshot")] > 0
    assert found["rakuten_outage_seconds", of("training")] == 0


def test_the_last_model_is_compared_with_the_champion(metrics, load_weeks, database, settings):
    for batch_id, f1 in zip(load_weeks(4), (0.8, 0.77, 0.79, 0.75), strict=True):
        record_both(database, settings, batch_id, f1)
    promote(database, 1)
    found = metrics()
    assert found["rakuten_champion_version", ("batch", "week_1")] == 1
    assert found["rakuten_model_f1", ("bound", "value"), ("which", "champion")] == 0.8
    assert found["rakuten_model_f1", ("bound", "high"), ("which", "last")] == pytest.approx(0.77)
    assert found["rakuten_models_worse_than_champion",] == 2  # the third one's interval reaches 0.81


def test_the_shares_and_the_drift_are_those_of_the_last_dataset_and_model(
    metrics, load_weeks, database, settings
):
    first, second, _third = load_weeks(3)
    record(database, settings, Stage.SNAPSHOT, first, dataset(1, classes={"10": 1, "40": 1}))
    drift = [drift_entry("class shares", drifted=True)]
    record(database, settings, Stage.SNAPSHOT, second, dataset(2, classes={"10": 3, "40": 1}, drift=drift))
    record(database, settings, Stage.TRAINING, first, model(1))
    found = metrics()
    assert found["rakuten_class_share", ("prdtypecode", "10")] == 0.75
    assert found["rakuten_drifted", ("feature", "class shares"), ("reference", "before")] == 1
    assert found["rakuten_drifted", ("feature", "unknown words"), ("reference", "before")] == 0
    assert len([name for name, *_ in found if name == "rakuten_drifted"]) == 2


def test_a_correction_does_not_end_the_alarm_of_the_week_before_it(
    metrics, load_weeks, database, settings, apply, training_set
):
    [week] = load_weeks(1)
    drift = [drift_entry("class shares", drifted=True)]
    record(database, settings, Stage.SNAPSHOT, week, dataset(1, drift=drift))
    record(database, settings, Stage.TRAINING, week, model(1))
    [productid] = training_set.rows(0, 1)["productid"].to_pylist()
    correction = apply("productid,designation", (productid, "Un autre titre")).batch_id
    record(database, settings, Stage.SNAPSHOT, correction, dataset(2, drift=[]))
    record(database, settings, Stage.TRAINING, correction, model(2, drift=[]))
    found = metrics()
    assert found["rakuten_drifted", ("feature", "class shares"), ("reference", "before")] == 1
    assert found["rakuten_drifted", ("feature", "unknown words"), ("reference", "before")] == 0


@pytest.mark.parametrize(
    "broken", [{"classes": {"10": "many"}}, {"classes": 7, "drift": {"a": 1}}, {"drift": [7]}]
)
def test_a_malformed_record_breaks_no_scrape(metrics, load_weeks, database, settings, broken):
    [batch_id] = load_weeks(1)
    record(database, settings, Stage.SNAPSHOT, batch_id, dataset(1, **broken))
    assert metrics()["rakuten_batches", of("snapshot"), ("state", "finished")] == 1


def test_records_of_an_earlier_version_have_no_shares_and_no_drift(metrics, load_weeks, database, settings):
    [batch_id] = load_weeks(1)
    record(database, settings, Stage.SNAPSHOT, batch_id, {"run_id": "r", "total_rows": 5})
    assert not {"rakuten_class_share", "rakuten_drifted"} & {name for name, *_ in metrics()}


def test_a_verification_is_recorded_with_its_login(metrics, database):
    with database.connect(Role.READER, "test", autocommit=True) as connection:
        for problems in (3, 0):
            connection.execute("select record_verification(7, %s)", [problems])
        recorded = connection.execute("select verified_by, checks, problems from verifications order by id")
        assert recorded.fetchall() == [(Role.READER, 7, 3), (Role.READER, 7, 0)]
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("select record_verification(1, 2)")
    assert metrics()["rakuten_verification_problems",] == 0
    assert metrics()["rakuten_verification_timestamp_seconds",] == pytest.approx(time.time(), abs=600)


def test_the_connections_of_listeners_and_servers_are_counted(metrics, database):
    with (
        connect(database.conninfo(Role.SNAPSHOT), "rakuten snapshot listen"),
        connect(database.conninfo(Role.SERVER), "rakuten server 3"),
        connect(database.conninfo(Role.SERVER), "rakuten server 2 refuses 3"),
    ):
        found = metrics()
    assert found["rakuten_listeners", of("snapshot")] == 1
    assert found["rakuten_listeners", of("training")] == 0
    assert found["rakuten_listener_silent_seconds", of("snapshot")] < 600
    assert found["rakuten_model_servers",] == 2
    assert found["rakuten_model_servers_refusing",] == 1


def test_a_scrape_reads_no_big_table(database, as_superuser, load_weeks):
    """So its cost does not depend on the number of products: it works although nobody may read these tables."""
    load_weeks(2)
    with as_superuser() as holder, database.connect(Role.TRAINING, "test", autocommit=True) as connection:
        holder.execute(f"lock table {', '.join(BIG_TABLES)} in access exclusive mode")
        connection.execute("set lock_timeout = '1s'")
        assert connection.execute("select count(*) from pipeline_metrics(100)").fetchone()[0] > 50
        with pytest.raises(psycopg.errors.LockNotAvailable):  # the lock would be noticed
            connection.execute("select count(*) from storage_metrics()")
