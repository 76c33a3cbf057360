"""Load one week in four steps. Airflow runs each step as a task. `rakuten load` runs the steps one after the other.

    check_current_state -> load_increment -> validate_data_load -> complete_batch

The load is cumulative and idempotent. After each week, PostgreSQL holds a higher percentage of all training rows. The load of a
week sends only the rows that are still missing. One transaction writes all rows of a week, so the rows arrive together or not
at all.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from db.batches import rows
from db.load.held_out_changes import hold_out_changes
from db.load.send_rows import send_week
from db.load.source_record import last_batch, require_unchanged_source, source_record
from db.load.writing import Connection, claim_batch, lock_tables, translate_errors
from db.source.training_set import TrainingSet, read_test_set
from db.sql import query
from shared.config import Settings, target_rows
from shared.errors import BadInputError, LoadError, PipelineError


@dataclass(frozen=True)
class LoadPlan:
    """The plan of one week's load: it loads the rows with ranks from `first_rank` to `end_rank` - 1.

    A rank is a row's position in a seeded random order of all training rows.
    """

    week: int
    percentage: Decimal
    first_rank: int
    end_rank: int
    total_rows: int
    source: dict[str, Any]

    @property
    def batch_name(self) -> str:
        return f"week_{self.week}"

    @property
    def new_rows(self) -> int:
        return self.end_rank - self.first_rank


@dataclass(frozen=True)
class LoadResult:
    """The result of `load_increment`: how many rows were sent, and how many products and labels were written."""

    batch_id: int
    rows: int
    products_written: int
    labels_written: int
    seconds: float


def check_current_state(
    connection: Connection, settings: Settings, training_set: TrainingSet
) -> LoadPlan | None:
    """Return the plan of the next week's load, or None if PostgreSQL has MAX_PERCENTAGE of the training rows.

    Raises:
        SourceChangedError: a source file, or a setting that chooses the rows, differs from the record of the first load.
        BadSourceError: a CSV file of the test set is malformed. Only the first load checks the test set.
        BadInputError: INITIAL_PERCENTAGE or INCREMENT_PERCENTAGE was lowered, so that PostgreSQL already holds as many rows as
            the next week should reach.
    """
    last_name, last_percentage, recorded = last_batch(connection)
    if recorded is None:
        # The load does not use the test set, but a malformed test set must be reported before any row is loaded.
        read_test_set(settings.data_path)
        source = source_record(settings, training_set)
    else:
        source = require_unchanged_source(recorded, settings, training_set)
    week = 1 if last_name is None else int(last_name.removeprefix("week_")) + 1
    if week > settings.last_week:
        return None
    percentage = settings.percentage_of(week)
    if last_percentage is not None and percentage <= last_percentage:
        raise BadInputError(
            f"week_{week} should reach {percentage} % of the training rows, but {last_name} reached {last_percentage} %",
            remedy=f"INITIAL_PERCENTAGE or INCREMENT_PERCENTAGE was lowered after {last_name}: raise it again",
        )
    return LoadPlan(
        week=week,
        percentage=percentage,
        first_rank=target_rows(training_set.total_rows, last_percentage) if last_percentage else 0,
        end_rank=target_rows(training_set.total_rows, percentage),
        total_rows=training_set.total_rows,
        source=source,
    )


def load_increment(
    connection: Connection,
    plan: LoadPlan,
    training_set: TrainingSet,
    *,
    on_claim: Callable[[int], None] | None = None,
) -> LoadResult:
    """Claim the batch of a week and commit the claim. Then send all rows of the week in one transaction.

    If an earlier attempt sent the rows but did not complete the batch, the rows are in PostgreSQL already. If somebody has
    changed or deleted one of these rows since then, the load keeps this change, because it counts as a correction.

    Args:
        connection: a connection with the loader's role.
        plan: the plan of the week's load.
        training_set: the training set that the plan was made from.
        on_claim: called with the id of the batch after the claim is committed, before any row is sent.

    Raises:
        LoadError: another load is running, or PostgreSQL rejected a statement. In the second case, this attempt has written
            no rows and the batch is now 'failed'.
    """
    started = time.monotonic()
    batch_id = _claim(connection, plan)
    if on_claim is not None:
        on_claim(batch_id)
    with _fail_batch_on_error(connection, batch_id, plan.batch_name), connection.transaction():
        connection.execute("select begin_batch(%s)", [batch_id])
        products, labels = send_week(connection, training_set, plan.first_rank, plan.end_rank)
        result = LoadResult(batch_id, plan.new_rows, products, labels, round(time.monotonic() - started, 3))
        record = {
            "rows": result.rows,
            "products_written": products,
            "labels_written": labels,
            "seconds": result.seconds,
            "target_rows": plan.end_rank,
        }
        connection.execute("select record_load(%s, %s)", [batch_id, Jsonb(record)])
    connection.commit()
    return result


def validate_data_load(connection: Connection, batch_id: int) -> dict[str, int]:
    """Check that `products` has exactly the rows that it should have after this batch. Return the row counts.

    The keys are total_rows, held_rows, excess_rows, unlabelled_rows and deleted_rows (see load/validate_load.sql in db/sql).

    Raises:
        LoadError: a row is missing, belongs to a later week or has no label. The batch is then 'failed': no snapshot is built.
    """
    with translate_errors(f"batch {batch_id}"):
        name, target = _running_batch(connection, batch_id)
        [counts] = rows(connection, query("load/validate_load"), {"target_rows": target})
        connection.commit()
    # An error in this block makes the batch 'failed', which must happen only if the rows of the batch are wrong. So the query
    # above is outside the block: an error of the query, such as a lost connection, says nothing about the rows.
    with _fail_batch_on_error(connection, batch_id, name):
        if counts["held_rows"] + counts["deleted_rows"] != target:
            missing = target - counts["held_rows"] - counts["deleted_rows"]
            raise LoadError(
                f"{name}: the table products has {counts['held_rows']} of the {target} rows up to this week; "
                f"{counts['deleted_rows']} were deleted, {missing} are missing without a recorded deletion",
                remedy="compare products with products_history, then run the load again",
            )
        if counts["excess_rows"] or counts["unlabelled_rows"]:
            raise LoadError(
                f"{name}: the table products has {counts['excess_rows']} products of a later week, "
                f"and {counts['unlabelled_rows']} without a label",
                remedy="products_history shows who changed them; correct them, then run the load again",
            )
    return counts


def complete_batch(connection: Connection, batch_id: int) -> None:
    """Complete and seal the batch. A trigger then notifies the snapshot listener.

    The seal is a digest of the batch, chained to the seal of the batch before. If somebody has changed rows by hand since the
    last complete batch, these changes become part of this batch, because a complete batch never changes. If a changed product
    now has nearly the same text as a held-out product, the changed product is held out, too.
    """
    with (
        translate_errors(f"batch {batch_id}", busy="a writer keeps products or labels locked"),
        connection.transaction(),
    ):
        lock_tables(connection)
        held_out = hold_out_changes(connection, batch_id)
        connection.execute("select record_load(%s, %s)", [batch_id, Jsonb({"held_out": held_out})])
        connection.execute("select complete_batch(%s)", [batch_id])
    connection.commit()


def _claim(connection: Connection, plan: LoadPlan) -> int:
    """Claim the batch and commit the claim before any row is sent. If the load is killed, the batch stays 'running'."""
    with translate_errors(plan.batch_name), connection.transaction():
        batch_id = claim_batch(connection, plan.batch_name, plan.percentage, plan.source)
    connection.commit()
    return batch_id


def _running_batch(connection: Connection, batch_id: int) -> tuple[str, int]:
    row = connection.execute(
        "select batch_name, (metadata #>> '{load,target_rows}')::bigint, status from data_loads where id = %s",
        [batch_id],
    ).fetchone()
    connection.commit()
    if row is None or row[2] != "running" or row[1] is None:
        state = "does not exist" if row is None else f"is {row[2]}"
        raise LoadError(
            f"batch {batch_id} {state}; a batch can be validated only while it is running and after all its rows were sent",
            remedy="run the load again",
        )
    return row[0], row[1]


@contextmanager
def _fail_batch_on_error(connection: Connection, batch_id: int, name: str) -> Iterator[None]:
    """Mark the batch 'failed' if the `with` block raises an error. Re-raise a psycopg error as LoadError.

    Two errors are different: after a lock conflict or a lost connection, the batch stays 'running'.
    """
    try:
        with translate_errors(name):
            yield
    except PipelineError as error:
        if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            # If the connection is lost, these statements fail and the batch stays 'running'. The next load can claim it anyway.
            with suppress(psycopg.Error):
                connection.rollback()
                connection.execute("select fail_batch(%s, %s)", [batch_id, error.message])
                connection.commit()
        raise


def load_week(
    connection: Connection,
    settings: Settings,
    training_set: TrainingSet,
    *,
    up_to: int | None = None,
    on_claim: Callable[[int], None] | None = None,
) -> dict[str, Any] | None:
    """Load the next week: run the four steps from `check_current_state` to `complete_batch`. Return a summary of the load.

    Return None if no week is left, or if the next week is after `up_to`.
    """
    plan = check_current_state(connection, settings, training_set)
    if plan is None or (up_to is not None and plan.week > up_to):
        return None
    result = load_increment(connection, plan, training_set, on_claim=on_claim)
    counts = validate_data_load(connection, result.batch_id)
    complete_batch(connection, result.batch_id)
    return {
        "batch_id": result.batch_id,
        "batch_name": plan.batch_name,
        "week": plan.week,
        "percentage": float(plan.percentage),
        "new_rows": result.rows,
        "total_rows": counts["total_rows"],
        "seconds": result.seconds,
    }
