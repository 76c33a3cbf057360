"""Apply a correction file: change titles, fix labels, delete and restore products. A correction is a batch of its own.

A correction is one transaction. It locks the tables, so that no other session can change products or labels after the
correction has checked them. Afterwards either the whole batch is complete, sealed and announced by NOTIFY, or nothing has
changed. The seal is a digest of the batch, chained to the seal of the batch before.
"""

import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb

from db.batches import read_batch, rows
from db.load.correction_file import CorrectionFile, read_correction
from db.load.held_out_changes import due_for_holdout, hold_out_changes, product_texts
from db.load.source_record import require_unchanged_source
from db.load.writing import Connection, claim_batch, copy_rows, lock_tables, translate_errors
from db.source.checked_file import CheckedFile
from db.source.training_set import X_TEST, X_TRAIN, read_test_set, read_training_set
from db.sql import query
from shared.config import Settings
from shared.errors import BadCorrectionError, BadInputError, BadSourceError, Problem


@dataclass(frozen=True)
class CorrectionResult:
    """The changes that a correction made, or would make.

    `total_rows` is the number of products after the correction. If the correction was only checked, `batch_id` and `total_rows`
    are None.

    `rows` counts the rows of the file, including rows that change nothing. `inserted`, `updated` and `deleted` count products.
    `labels` counts the labels that change. `held_out` counts the inserted and updated products that get the split 'holdout', so
    that no later training dataset contains them.
    """

    batch_id: int | None
    batch_name: str
    rows: int
    inserted: int
    updated: int
    deleted: int
    labels: int
    held_out: int
    total_rows: int | None
    seconds: float


def correct(
    connection: Connection, settings: Settings, path: Path, *, reason: str | None = None, check: bool = False
) -> CorrectionResult:
    """Apply a correction file completely or not at all. The module db/load/correction_file.py describes its format.

    Args:
        connection: a connection with the loader's role and no open transaction.
        settings: `data_path` is the directory of the source files. The correction must not insert a product that they contain.
        path: the path of the correction file.
        reason: why the products are corrected. The table `data_loads` records it.
        check: True to find out only what the correction would change.

    Raises:
        BadCorrectionError: the file has problems; the error lists all of them. Nothing was changed.
        BadInputError: no week is complete yet, or a batch is unfinished. Nothing was changed.
        LoadError: another batch is being written, or PostgreSQL rejected a statement. Nothing was changed.
    """
    started = time.monotonic()
    try:
        given = read_correction(path)
    except BadSourceError as error:
        raise BadCorrectionError(error.problems, path) from error
    busy = "another load is running, or a writer keeps products or labels locked"
    with translate_errors("correction", busy=busy), connection.transaction(force_rollback=check):
        if not check:
            lock_tables(connection)
        name, percentage, recorded = _next_correction(connection)
        held_out = _stage_rows(connection, settings, given, recorded)
        counts = _count_changes(connection, given.file)
        batch_id = None
        if not check:
            files = {"files": {path.name: given.sha256}, "reason": reason}
            batch_id = claim_batch(connection, name, percentage, files)
            connection.execute("select begin_batch(%s)", [batch_id])
            connection.execute(query("corrections/write_products"))
            connection.execute(query("corrections/write_labels"))
            hold_out_changes(connection, batch_id)
        result = {"rows": given.file.csv.num_rows, **counts, "held_out": held_out}
        seconds = round(time.monotonic() - started, 3)
        total_rows = None
        if batch_id is not None:
            record = Jsonb({**result, "seconds": seconds})
            connection.execute("select record_load(%s, %s)", [batch_id, record])
            connection.execute("select complete_batch(%s)", [batch_id])
            total_rows = read_batch(connection, batch_id).total_rows
    return CorrectionResult(batch_id, name, **result, total_rows=total_rows, seconds=seconds)


def _next_correction(connection: Connection) -> tuple[str, Decimal, dict[str, Any]]:
    """Return (name, percentage, source) for the batch of the next correction.

    The name is, for example, correction_2. The percentage is the same as for the last completed week: the share of the training
    rows that are loaded. The source is what the first load recorded about the source files.

    Raises:
        BadInputError: no week is complete yet, or another batch is unfinished. A correction must wait for the unfinished batch:
            otherwise the correction's digest would also cover that batch's rows.
    """
    row = connection.execute(query("corrections/next_correction")).fetchone()
    if row is None:
        raise BadInputError("no week is complete yet, so no product can be corrected", remedy="rakuten load")
    unfinished = connection.execute(query("corrections/unfinished_batch")).fetchone()
    if unfinished is not None:
        raise BadInputError(
            f"batch {unfinished[0]} is {unfinished[1]!r}, and a correction must wait until this batch is complete",
            remedy="if a load of this batch still runs, wait for its end; if not, run rakuten load, which continues the batch",
        )
    return row[0], row[1], row[2]


def _stage_rows(
    connection: Connection, settings: Settings, given: CorrectionFile, recorded: dict[str, Any]
) -> int:
    """Copy the rows of a correction file to a temporary table, fill in the values that the file lacks, and check the rows.

    For an updated product, a missing value is the product's present value. For a restored product, it is the value before the
    deletion. Return how many of the inserted and updated products must get the split 'holdout'.
    """
    connection.execute(query("corrections/create_table"))
    copy_rows(connection, "corrections/copy_rows", [given.rows])
    connection.execute(query("corrections/complete_rows"), {"columns": list(given.columns)})
    _check_against_products(connection, given.file)
    _check_against_source(connection, settings, given.file, recorded)
    if given.file.problems:
        raise BadCorrectionError(given.file.problems, given.file.path)
    texts = connection.execute(query("corrections/training_texts")).fetchall()
    due = due_for_holdout(connection, product_texts(texts))
    connection.execute("update correction set split = 'holdout' where productid = any(%s::bigint[])", [due])
    connection.execute(query("corrections/mark_changes"))
    return len(due)


def _check_against_products(connection: Connection, file: CheckedFile) -> None:
    reported = {problem.line for problem in file.problems}
    for row, fault in connection.execute(query("corrections/faults")).fetchall():
        match fault:
            case "there already":
                reason, remedy = "the product exists already", "update it instead"
            case "deleted":
                reason, remedy = "the product was deleted", "insert it, or remove the row"
            case "unknown":
                reason, remedy = "no product has this productid", "correct the productid, or remove the row"
            case _:
                # An invalid value is null, like a missing one. So if the line has a reported problem, do not also report that a
                # value is missing.
                if file.line(row) in reported:
                    continue
                reason = "a new product needs designation and prdtypecode"
                remedy = "fill them in"
        file.report(np.array([row]), "productid", reason, remedy)


def _check_against_source(
    connection: Connection, settings: Settings, file: CheckedFile, recorded: dict[str, Any]
) -> None:
    """Report each product that the correction inserts although a source file contains it.

    A correction must not insert such a product. A later week loads the products of X_train.csv, and the products of X_test.csv
    (the test set) must never be loaded.
    """
    new = connection.execute(query("corrections/new_products")).fetchall()
    if not new:
        return
    training_set = read_training_set(
        settings.data_path, recorded["random_seed"], recorded["holdout_percentage"]
    )
    require_unchanged_source(recorded, settings, training_set)
    numbers, productids = (np.array(column, np.int64) for column in zip(*new, strict=True))
    for name, table in (
        (X_TRAIN, training_set.table),
        (X_TEST, read_test_set(settings.data_path)),
    ):
        found = numbers[np.isin(productids, table["productid"].to_numpy())]
        remedy = (
            "remove the row"
            if name == X_TEST
            else "remove the row: a later week loads this product, and you can correct it then"
        )
        file.report(found, "productid", f"{name} holds this product", remedy)


def _count_changes(connection: Connection, file: CheckedFile) -> dict[str, int]:
    [counts] = rows(connection, query("corrections/count_changes"))
    if not any(counts.values()):
        unchanged = "it changes nothing: every product already has the values of the file"
        raise BadCorrectionError(
            [Problem(file.path.name, None, "", unchanged, "check that you gave the right correction file")],
            file.path,
        )
    return counts
