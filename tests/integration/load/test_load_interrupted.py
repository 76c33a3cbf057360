"""A load that breaks off, and one of two at once: all rows or none, and what an undisturbed load writes."""

from contextlib import closing
from dataclasses import replace

import psycopg
import pyarrow.csv
import pytest
import search_path
from load_steps import finish, load_next, plan_of
from table_rows import batches, history, rows_of

from db.connect import connect
from db.database import Role
from db.embedded.waiting import poll
from db.load import send_rows, steps, writing
from db.load.source_record import recorded_source
from shared.errors import LoadError

DEADLINE_S = 30


@pytest.fixture
def undisturbed_history(another_database, settings, training_set, load_weeks_into):
    """What an undisturbed load of week 1 writes."""
    load_weeks_into(another_database, settings, training_set, 1)
    with connect(another_database.conninfo(Role.LOADER), "test") as connection:
        return history(connection)


# ---- interrupted


def run_in_the_middle(monkeypatch, action) -> None:
    """Do something after the products are sent and before the labels are."""

    def copy_rows(connection, statement, tables) -> int:
        if statement == "load/copy_labels":
            monkeypatch.undo()
            action()
        return original(connection, statement, tables)

    original = send_rows.copy_rows
    monkeypatch.setattr(send_rows, "copy_rows", copy_rows)


def fail_with(error: BaseException):
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("a defect"), "running"),
        (KeyboardInterrupt(), "running"),
        (psycopg.errors.DiskFull("disk full"), "failed"),
    ],
    ids=["defect", "Ctrl-C", "full disk"],
)
def test_a_load_that_breaks_off_leaves_no_rows_and_can_be_repeated(
    loader, settings, training_set, monkeypatch, undisturbed_history, error, status
):
    run_in_the_middle(monkeypatch, fail_with(error))
    with pytest.raises((LoadError, type(error))):
        load_next(loader, settings, training_set)
    assert batches(loader) == [("week_1", 40, 0, status)]
    assert history(loader) == []
    assert rows_of(loader, "select from products") == []
    finish(loader, load_next(loader, settings, training_set))
    assert batches(loader) == [("week_1", 40, 240, "completed")]
    assert history(loader) == undisturbed_history


def test_a_full_disk_is_named_as_the_reason(loader, settings, training_set, monkeypatch):
    run_in_the_middle(monkeypatch, fail_with(psycopg.errors.DiskFull("disk full")))
    with pytest.raises(LoadError, match="week_1: disk full"):
        load_next(loader, settings, training_set)
    assert rows_of(loader, "select load_error from pipeline_status") == [("week_1: disk full",)]


def test_a_first_load_that_left_no_rows_binds_nobody(loader, settings, training_set, monkeypatch):
    run_in_the_middle(monkeypatch, fail_with(RuntimeError("a defect")))
    with pytest.raises(RuntimeError):
        load_next(loader, settings, training_set)
    other_seed = settings.model_copy(update={"random_seed": 7})
    finish(loader, load_next(loader, other_seed))
    assert recorded_source(loader)["random_seed"] == 7


@pytest.fixture
def kill(as_superuser):
    """Terminate the server's side of a connection, and see it gone."""

    def kill_backend(pid: int) -> None:
        with as_superuser(autocommit=True) as superuser:
            superuser.execute("select pg_terminate_backend(%s)", [pid])
            alive = "select from pg_stat_activity where pid = %s"
            assert poll(lambda: not superuser.execute(alive, [pid]).fetchall(), timeout_s=DEADLINE_S)

    return kill_backend


def open_again(loader):
    return psycopg.connect(loader.info.dsn, password=loader.info.password, options=search_path.OPTION)


def test_a_load_whose_backend_dies_during_the_copy_leaves_no_rows_and_can_be_repeated(
    loader, as_role, settings, training_set, monkeypatch, kill, undisturbed_history
):
    write_csv, chunks = pyarrow.csv.write_csv, []
    with closing(open_again(loader)) as doomed:

        def write_and_kill(*arguments) -> None:
            write_csv(*arguments)
            chunks.append(arguments)
            if len(chunks) == 3:
                kill(doomed.info.backend_pid)

        monkeypatch.setattr(writing, "_COPY_ROWS", 20)
        monkeypatch.setattr(pyarrow.csv, "write_csv", write_and_kill)
        with pytest.raises(LoadError, match="week_1"):
            load_next(doomed, settings, training_set)
        monkeypatch.undo()
    assert batches(loader) == [("week_1", 40, 0, "running")]
    assert rows_of(loader, "select from products") == []
    finish(loader, load_next(loader, settings, training_set))
    assert history(loader) == undisturbed_history


def test_a_lost_connection_is_a_load_error_before_the_load(loader, settings, training_set, kill):
    with closing(open_again(loader)) as doomed:
        kill(doomed.info.backend_pid)
        with pytest.raises(LoadError):
            plan_of(doomed, settings, training_set)


@pytest.mark.parametrize("step", [steps.validate_data_load, steps.complete_batch])
def test_a_lost_connection_is_a_load_error_after_the_load(loader, settings, training_set, kill, step):
    with closing(open_again(loader)) as doomed:
        batch_id = load_next(doomed, settings, training_set)
        kill(doomed.info.backend_pid)
        with pytest.raises(LoadError):
            step(doomed, batch_id)
    finish(loader, batch_id)


# ---- two at once


@pytest.mark.parametrize("week", [1, 2])
def test_a_second_loader_is_told_at_once_and_harms_nothing(
    loader, as_role, settings, training_set, monkeypatch, undisturbed_history, week
):
    told = []

    def load_as_well() -> None:
        with as_role(Role.LOADER) as other:
            other.execute("set statement_timeout = '20s'")
            plan = replace(plan_of(other, settings, training_set), week=week)
            with pytest.raises(LoadError, match="another load is running") as refused:
                steps.load_increment(other, plan, training_set)
            told.append(refused.value)

    run_in_the_middle(monkeypatch, load_as_well)
    finish(loader, load_next(loader, settings, training_set))
    assert len(told) == 1
    assert batches(loader) == [("week_1", 40, 240, "completed")]
    assert history(loader) == undisturbed_history


def test_a_loader_that_takes_an_unfinished_batch_up_ends_where_the_first_would_have(
    loader, as_role, settings, training_set, undisturbed_history
):
    batch_id = load_next(loader, settings, training_set)
    with as_role(Role.LOADER) as other:
        finish(other, load_next(other, settings, training_set))
    with pytest.raises(LoadError, match=f"batch {batch_id} is completed"):
        steps.validate_data_load(loader, batch_id)
    steps.complete_batch(loader, batch_id)
    assert history(loader) == undisturbed_history


def test_a_claimed_batch_holds_up_its_successor_until_it_is_complete(loader, settings, training_set):
    batch_id = load_next(loader, settings, training_set)
    assert plan_of(loader, settings, training_set).week == 1
    finish(loader, batch_id)
    assert plan_of(loader, settings, training_set).week == 2
