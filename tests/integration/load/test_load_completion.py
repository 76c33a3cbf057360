"""A loaded batch is validated, then completed: with the rows that were promised, and once."""

import psycopg
import pytest
from load_steps import finish, load_next, plan_of
from psycopg import errors
from table_rows import batches, rows_of

from db.database import Role
from db.load import steps
from shared.errors import LoadError
from shared.events import BatchCompleted, parse

# ---- validation


@pytest.fixture
def tamper(as_superuser):
    """Change tables behind the audit's back, as only the owner of the server can."""

    def run(statement: str) -> None:
        with as_superuser() as superuser:
            for table in ("products", "labels"):
                superuser.execute(f"alter table {table} disable trigger all")
            superuser.execute(statement)
            disabled = superuser.execute(
                "select tgrelid::regclass, tgname from pg_trigger where tgenabled = 'D' and not tgisinternal"
            )
            for table, trigger in disabled.fetchall():
                superuser.execute(f"alter table {table} enable always trigger {trigger}")

    return run


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "delete from products where sample_rank in (3, 7)",
            "products has 238 of the 240 rows up to this week; 0 were deleted, 2 are missing without a recorded deletion",
        ),
        (
            "update products set sample_rank = null where sample_rank = 3",
            "1 are missing without a recorded deletion",
        ),
        (
            "insert into products (productid, sample_rank) values (1, 240)",
            "the table products has 1 products of a later week",
        ),
        (
            "delete from labels where productid = (select productid from products where sample_rank = 3)",
            "1 without a label",
        ),
    ],
)
def test_rows_that_are_not_as_promised_fail_the_batch_with_the_reason(
    loader, settings, training_set, tamper, statement, reason
):
    batch_id = load_next(loader, settings, training_set)
    tamper(statement)
    with pytest.raises(LoadError, match=reason):
        steps.validate_data_load(loader, batch_id)
    assert batches(loader) == [("week_1", 40, 0, "failed")]
    ((error,),) = rows_of(loader, "select load_error from pipeline_status")
    assert reason in error
    with pytest.raises(LoadError, match="is not running"):
        steps.complete_batch(loader, batch_id)


def test_rows_that_vanished_come_back_when_their_week_is_loaded_again(loader, settings, training_set, tamper):
    batch_id = load_next(loader, settings, training_set)
    tamper("delete from products where sample_rank in (3, 7)")
    with pytest.raises(LoadError):
        steps.validate_data_load(loader, batch_id)
    finish(loader, load_next(loader, settings, training_set))
    assert batches(loader) == [("week_1", 40, 240, "completed")]


def test_rows_that_were_deleted_on_record_are_no_fault(loader, as_role, settings, training_set):
    batch_id = load_next(loader, settings, training_set)
    with as_role(Role.OWNER) as owner:
        owner.execute(
            "delete from labels where productid in (select productid from products where sample_rank < 3)"
        )
        owner.execute("delete from products where sample_rank < 3")
    counts = steps.validate_data_load(loader, batch_id)
    steps.complete_batch(loader, batch_id)
    assert (counts["held_rows"], counts["deleted_rows"]) == (237, 3)
    assert batches(loader) == [("week_1", 40, 237, "completed")]


def test_rows_that_were_deleted_in_an_earlier_week_stay_deleted(loader, as_role, load_weeks):
    load_weeks(1)
    with as_role(Role.OWNER) as owner:
        owner.execute("delete from products where sample_rank = 0")
    load_weeks(1)
    assert batches(loader)[-1] == ("week_2", 43, 257, "completed")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("complete_batch(1)", "batch 1 is completed"),
        ("fail_batch(1, 'x')", "batch 1 is failed"),
        (
            None,
            "batch 1 is running; a batch can be validated only while it is running and after all its rows were sent",
        ),
    ],
)
def test_only_a_loaded_batch_is_validated(loader, end, message):
    loader.execute("select claim_batch('week_1', 40, '{}')")
    if end:
        loader.execute(f"select {end}")
    loader.commit()
    with pytest.raises(LoadError, match=message):
        steps.validate_data_load(loader, 1)
    with pytest.raises(LoadError, match="batch 99 does not exist"):
        steps.validate_data_load(loader, 99)


# ---- completion


def test_a_completed_batch_is_announced_once_when_it_is_committed(loader, as_role, settings, training_set):
    with as_role(Role.READER, autocommit=True) as ears:
        ears.execute("listen batch_completed")

        def heard() -> list[object]:
            ears.execute("select 1")  # whatever was committed before has been delivered with the answer
            return [parse(note.channel, note.payload) for note in ears.notifies(timeout=0)]

        batch_id = load_next(loader, settings, training_set)
        steps.validate_data_load(loader, batch_id)
        loader.execute("select complete_batch(%s)", [batch_id])
        assert heard() == []
        loader.rollback()
        assert heard() == []
        steps.complete_batch(loader, batch_id)
        steps.complete_batch(loader, batch_id)
        assert heard() == [BatchCompleted(v=1, batch_id=batch_id)]


def test_a_batch_that_does_not_run_is_not_completed(loader):
    with pytest.raises(LoadError, match="batch 5 is not running") as refused:
        steps.complete_batch(loader, 5)
    assert isinstance(refused.value.__cause__, errors.ObjectNotInPrerequisiteState)


def test_no_transaction_is_left_open(loader, settings, training_set):
    plan = plan_of(loader, settings, training_set)
    idle = psycopg.pq.TransactionStatus.IDLE
    assert loader.info.transaction_status == idle
    batch_id = steps.load_increment(loader, plan, training_set).batch_id
    assert loader.info.transaction_status == idle
    steps.validate_data_load(loader, batch_id)
    assert loader.info.transaction_status == idle
    steps.complete_batch(loader, batch_id)
    assert loader.info.transaction_status == idle


def test_a_batch_is_not_completed_on_an_old_snapshot(settings, loader):
    batch_id = load_next(loader, settings)
    loader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(LoadError, match="READ COMMITTED"):
        steps.complete_batch(loader, batch_id)


def test_a_batch_cannot_be_removed(settings, loader, as_superuser):
    finish(loader, load_next(loader, settings))
    with as_superuser() as connection, pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        connection.execute("delete from data_loads")
