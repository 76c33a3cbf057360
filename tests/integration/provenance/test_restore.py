"""After each kind of restore, the documented command makes PostgreSQL and MLflow agree again."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest
from stage_work import work_on

from db.connect import connect
from db.database import Role
from db.embedded.programs import load_programs
from db.protections import deviations
from listeners import reconcile
from listeners.job import Task
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from rakuten.provenance.checks import Cause
from rakuten.provenance.verify import verify
from rakuten.provenance.verify_database import verify_database
from shared.events import Stage
from shared.mlflow_names import CHAMPION, REGISTERED_MODEL


@pytest.fixture
def program(server, database):
    """Run a program of PostgreSQL as the superuser, in this test's database unless another is named."""
    bindir = load_programs(database.settings.pg_bindir).bindir

    def run(name, *arguments, dbname=None, content=None):
        conninfo = server.conninfo(dbname or database.settings.postgres_db)
        command = [bindir / name, f"--dbname={conninfo}", *arguments]
        done = subprocess.run(command, input=content, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


@pytest.fixture
def rakuten(rakuten_as, database, settings):
    return rakuten_as(database.conninfo(Role.OWNER), settings)


@pytest.fixture
def problems(database, settings):
    def look():
        with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
            checks = list(verify(connection, Tracking(settings), settings.snapshots_path))
        return [(check.cause, check.subject, check.problem) for check in checks if check.problem is not None]

    return look


def test_a_restore_of_the_data_only_lowers_the_triggers_and_an_upgrade_puts_them_back(
    program, database, load_weeks, rakuten, as_superuser
):
    load_weeks(1)
    dump = program(
        "pg_dump", "--format=custom", "--data-only", "--exclude-table=alembic_version", "--disable-triggers"
    )
    with as_superuser() as connection:
        for table in ("products", "labels", "data_loads", "products_history", "labels_history"):
            connection.execute(f"alter table {table} disable trigger all")
            connection.execute(f"truncate {table}")
    program("pg_restore", "--data-only", "--disable-triggers", "--exit-on-error", content=dump)
    with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
        lowered = deviations(connection)
        assert {(found.kind, found.remedy) for found in lowered} == {("trigger", "rakuten db upgrade")}
        assert len(lowered) == 18
        assert all("not in replicas" in found.problem for found in lowered)
        shown = rakuten("doctor", "--json").stdout
        assert sum(found["finding"] == "the schema was changed" for found in json.loads(shown)) == 18
        assert rakuten("db", "upgrade").exit_code == 0
        assert [check for check in verify_database(connection) if check.problem is not None] == []
    load_weeks(1)


def test_after_a_restore_of_one_of_the_two_the_documented_command_makes_them_agree(
    program, database, settings, load_weeks, rakuten, problems
):
    def build(count=1):
        for batch_id in load_weeks(count):
            work_on(database, settings, batch_id)

    def champion():
        return int(registry.champion(Tracking(settings)).version)

    build()
    older_database = program("pg_dump", "--format=custom")
    older_mlflow = shutil.copytree(settings.mlflow_path, settings.state_path / "older")
    build()
    assert problems() == []

    # an older MLflow under a newer PostgreSQL: restart the listeners, which reconcile when they start
    shutil.rmtree(settings.mlflow_path / "artifacts")
    shutil.copytree(older_mlflow / "artifacts", settings.mlflow_path / "artifacts")
    with (
        closing(sqlite3.connect(older_mlflow / "mlflow.db")) as older,
        closing(sqlite3.connect(settings.mlflow_path / "mlflow.db")) as newer,
    ):
        older.backup(newer)  # this process has the file open
    assert {cause for cause, _, _ in problems()} == {Cause.CHANGED, Cause.UNKNOWN}
    for stage in Stage:
        conninfo = database.conninfo(Role[stage.upper()])
        reconcile.handle(Task(stage, conninfo, settings, "listeners.reconcile"))
    work_on(database, settings, 2)
    assert problems() == []

    # an older PostgreSQL under a newer MLflow
    tracking = Tracking(settings)
    if champion() == 1:
        assert (
            rakuten("rollback", "--to", "2", "--reason", "so that the champion is of the lost week").exit_code
            == 0
        )
    program(
        *("pg_restore", "--exit-on-error", "--create", "--clean", "--if-exists"),
        dbname="postgres",
        content=older_database,
    )
    upgraded = rakuten("db", "upgrade")
    assert (upgraded.exit_code, upgraded.stderr) == (0, "")
    orphaned = problems()
    assert {cause for cause, _, _ in orphaned} == {Cause.ORPHANED, Cause.UNKNOWN}
    assert f"alias {CHAMPION} of {REGISTERED_MODEL}" in {subject for _, subject, _ in orphaned}
    verified = rakuten("verify")
    assert verified.exit_code == 0
    assert "PostgreSQL was restored to an earlier time" in verified.output
    assert "rakuten orphans --supersede" in verified.output
    [refused] = [
        item
        for item in json.loads(rakuten("doctor", "--json").stdout)
        if item["finding"] == "name in MLflow belongs to another database"
        and item["subject"] == tracking.registered_model
    ]
    assert "run: rakuten db adopt" in refused["remedy"]
    assert rakuten("db", "adopt").exit_code == 0
    found = {item["finding"]: item["remedy"] for item in json.loads(rakuten("doctor", "--json").stdout)}
    assert "rakuten orphans --supersede" in found["the champion is a model of an unknown batch"]
    assert "rakuten orphans --supersede" in found["run of an unknown batch"]

    listed = json.loads(rakuten("orphans", "--json").output)
    assert {orphan["run_name"] for orphan in listed} == {"train_week_2", "model_week_2"}
    assert champion() != 1
    settled = rakuten("orphans", "--supersede")
    assert (settled.exit_code, champion()) == (0, 1)
    assert problems() == []
    assert "no run of an unknown batch" in rakuten("orphans", "--supersede").output
    assert tracking.client.get_run(listed[0]["run_id"]).data.tags["superseded"] == "true"

    build()  # the week that was lost
    assert problems() == []
    assert "nothing was changed" in rakuten("verify").output


def test_without_an_earlier_champion_of_a_known_batch_the_alias_is_taken_away(
    database, models, three_champions, rakuten
):
    """None of the models' batches is in PostgreSQL."""
    models.lose(1, 2, 3)
    settled = rakuten("orphans", "--supersede")
    assert "version 3 is no longer champion" in settled.output
    assert models.champion is None
