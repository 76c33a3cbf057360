"""Several databases beside one MLflow: each has names of its own, and a second one is refused those of the first."""

import json
import threading

import psycopg
import pytest
import search_path
from jobs import claim_job, finish
from psycopg import sql

from db.connect import connect
from db.database import Role
from listeners import reconcile
from listeners.job import Task
from listeners.outages import outage_of
from listeners.promotion.rollback import roll_back
from listeners.snapshot import handle as snapshot
from listeners.tracking.ownership import identity_of, own_names, owners
from listeners.tracking.runs import Tracking
from listeners.training import handle as training
from shared.errors import OutageError
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, REGISTERED_MODEL, Tag

NAMES = {DATASET_EXPERIMENT, MODEL_EXPERIMENT, REGISTERED_MODEL}


@pytest.fixture
def tracking(models):
    return models.tracking


@pytest.fixture
def own(database, tracking):
    with database.connect(Role.SNAPSHOT, "test", autocommit=True) as connection:
        return own_names(tracking, connection)


@pytest.fixture
def others(another_database, settings):
    """The settings of another database, with the same data and the same MLflow."""
    return another_database.settings.model_copy(
        update={"data_path": settings.data_path, "state_path": settings.state_path}
    )


@pytest.fixture
def connect_other(another_database):
    return lambda role=Role.SNAPSHOT: connect(another_database.conninfo(role), "test", autocommit=True)


def test_a_second_database_is_refused_until_it_has_names_of_its_own(
    own, tracking, others, another_database, training_set, load_weeks_into
):
    [batch_id] = load_weeks_into(another_database, others, training_set, 1)
    conninfos = {stage: another_database.conninfo(Role[stage.upper()]) for stage in Stage}
    job = claim_job(Stage.SNAPSHOT, conninfos[Stage.SNAPSHOT], others, batch_id)
    refused = [
        lambda: snapshot.handle(job),
        lambda: roll_back(tracking, conninfos[Stage.TRAINING], 1, reason="why", by="somebody"),
        *(
            lambda stage=stage: reconcile.handle(Task(stage, conninfos[stage], others, reconcile.__name__))
            for stage in Stage
        ),
    ]
    for act in refused:
        with pytest.raises(OutageError, match=r"(?s)belongs to the database .*MLFLOW_NAME_PREFIX") as error:
            act()
        assert outage_of(error.value) is error.value  # so no batch is blamed
    assert owners(tracking) == dict.fromkeys(NAMES, own)
    assert tracking.runs(DATASET_EXPERIMENT, Tag.BATCH_ID) == []

    prefixed = others.model_copy(update={"mlflow_name_prefix": "staging_"})
    job = claim_job(Stage.SNAPSHOT, conninfos[Stage.SNAPSHOT], prefixed, batch_id)
    snapshot.handle(job)
    found = owners(Tracking(prefixed))
    assert set(found) == {f"staging_{name}" for name in NAMES}
    assert set(found.values()).isdisjoint({own, None})
    assert tracking.runs(DATASET_EXPERIMENT, Tag.BATCH_ID) == []


def test_two_databases_that_start_at_once_do_not_both_get_the_names(tracking, database, another_database):
    got = []

    def start(which):
        with connect(which.conninfo(Role.TRAINING), "test", autocommit=True) as connection:
            try:
                got.append(own_names(Tracking(database.settings), connection))
            except OutageError as error:
                got.append(error)

    starting = [threading.Thread(target=start, args=[which]) for which in (database, another_database)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    assert sum(isinstance(identity, str) for identity in got) <= 1
    assert None not in owners(tracking).values()


def test_names_that_nobody_owns_are_claimed(tracking, database, another_database, connect_other):
    tracking.experiment_id(DATASET_EXPERIMENT)
    tracking.client.create_registered_model(REGISTERED_MODEL)
    with database.connect(Role.SNAPSHOT, "test", autocommit=True) as connection:
        identity = own_names(tracking, connection)
    assert owners(tracking) == dict.fromkeys(NAMES, identity)
    with connect_other() as connection, pytest.raises(OutageError):
        own_names(tracking, connection)


def test_a_copy_of_a_database_is_another_database(database, server, as_superuser):
    with as_superuser() as connection:
        original = identity_of(connection)
    name, copy = database.settings.postgres_db, sql.Identifier(f"{database.settings.postgres_db}_copy")
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template {}").format(copy, sql.Identifier(name)))
    try:
        copy_conninfo = server.conninfo(copy.as_string().strip('"'))
        with psycopg.connect(copy_conninfo, options=search_path.OPTION) as connection:
            assert identity_of(connection) != original
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(copy))
    with as_superuser() as connection:
        assert identity_of(connection) == original
    database.upgrade()
    with as_superuser() as connection:
        assert identity_of(connection) == original
        connection.execute("drop table data_loads cascade")  # as when the schema is created anew
        connection.execute("create table data_loads ()")
        assert identity_of(connection) != original


def test_a_database_that_replaces_another_adopts_the_names(
    own, tracking, database, others, another_database, connect_other, rakuten_as
):
    rakuten = rakuten_as(another_database.conninfo(Role.READER), others)
    with connect_other() as connection:
        connection.execute("select 1")
        other = identity_of(connection)
    adopted = rakuten("db", "adopt").output
    assert {line.split()[0] for line in adopted.splitlines()} == NAMES
    assert owners(tracking) == dict.fromkeys(NAMES, other)
    with connect_other() as connection:
        assert own_names(tracking, connection) == other
    with database.connect(Role.SNAPSHOT, "test", autocommit=True) as connection, pytest.raises(OutageError):
        own_names(tracking, connection)


def test_the_doctor_names_what_belongs_to_another_database(
    own, others, another_database, training_set, load_weeks_into, rakuten_as
):
    load_weeks_into(another_database, others, training_set, 1)
    rakuten = rakuten_as(another_database.conninfo(Role.READER), others)
    found = json.loads(rakuten("doctor", "--json").output)
    foreign = {entry["subject"] for entry in found if "another database" in entry["finding"]}
    assert foreign == NAMES
    adopted = rakuten("db", "adopt")
    assert adopted.exit_code == 0
    assert "another database" not in rakuten("doctor").output


def test_both_stages_and_the_champion_have_the_prefix(database, settings, load_weeks, rakuten_as):
    prefixed = settings.model_copy(update={"mlflow_name_prefix": "staging_"})
    [batch_id] = load_weeks(1)
    for stage, handle in ((Stage.SNAPSHOT, snapshot.handle), (Stage.TRAINING, training.handle)):
        conninfo = database.conninfo(Role[stage.upper()])
        job = claim_job(stage, conninfo, prefixed, batch_id)
        finish(job, handle(job))
    client = Tracking(prefixed).client
    assert {experiment.name for experiment in client.search_experiments()} == {
        "Default",
        f"staging_{DATASET_EXPERIMENT}",
        f"staging_{MODEL_EXPERIMENT}",
    }
    assert [model.name for model in client.search_registered_models()] == [f"staging_{REGISTERED_MODEL}"]
    rakuten = rakuten_as(database.conninfo(Role.READER), prefixed)
    assert "champion of staging_rakuten_classifier: version 1\n" in rakuten("champion").output
    document = json.loads(rakuten("lineage", f"staging_{REGISTERED_MODEL}@champion", "--json").output)
    assert document["batches"][-1]["batch_name"] == "week_1"
    assert rakuten("verify").exit_code == 0
