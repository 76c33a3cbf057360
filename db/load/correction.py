"""A correction: changed titles, fixed labels, deleted and restored products from a file, as a batch of its own.

It is one transaction. While it runs no other writer can come between what it has checked and what it writes, and afterwards
it is there, complete, sealed and announced, or nothing of it is.
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
    """What a correction changed, or would change. `batch_id` and `total_rows` are None where it was only checked.

    `inserted`, `updated` and `deleted` count products, `labels` labels of them all; `held_out` counts those of them that are
    not trained on any more. `rows` are the file's, also those that change nothing.
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
    """Apply a file of corrections (db/load/correction_file.py says what it holds), all of it or nothing.

    Args:
        connection: of the loader, with no transaction open.
        settings: name the source files, which are asked about products that were never there.
        path: the file.
        reason: why, for whoever reads `data_loads` later.
        check: only find out what it would change.

    Raises:
        BadCorrectionError: with every problem of the file. Nothing was changed.
        BadInputError: no week is complete yet.
        LoadError: another batch is being written, or PostgreSQL refused. Nothing was changed.
    """
    started = time.monotonic()
    try:
        given = read_correction(path)
    except BadSourceError as error:
        raise BadCorrectionError(error.problems) from error
    busy = "another load is running, or a writer keeps products or labels locked"
    with translate_errors("correction", busy=busy), connection.transaction(force_rollback=check):
        if not check:
            lock_tables(connection)
        name, percentage, recorded = _next(connection)
        held_out = _stage(connection, settings, given, recorded)
        counts = _counts(connection, given.file)
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


def _next(connection: Connection) -> tuple[str, Decimal, dict[str, Any]]:
    """Name and percentage of the next correction, and what the first load recorded of its source.

    Raises:
        BadInputError: no week is complete yet, or one was left half way: completing a correction would complete its rows too.
    """
    row = connection.execute(query("corrections/next_correction")).fetchone()
    if row is None:
        raise BadInputError("no week is complete yet: there is nothing to correct", remedy="rakuten load")
    unfinished = connection.execute(query("corrections/unfinished_batch")).fetchone()
    if unfinished is not None:
        raise BadInputError(
            f"{unfinished[0]} is {unfinished[1]!r}, and nothing is corrected before it is complete",
            remedy="rakuten load takes it up again, also if its loader was killed; if one is at work, wait for it",
        )
    return row[0], row[1], row[2]


def _stage(
    connection: Connection, settings: Settings, given: CorrectionFile, recorded: dict[str, Any]
) -> int:
    """Bring the rows in, complete what each product is to be, check it; returns how many are held out from now on."""
    connection.execute(query("corrections/create_table"))
    copy_rows(connection, "corrections/copy_rows", [given.rows])
    connection.execute(query("corrections/complete_rows"), {"columns": list(given.columns)})
    _check_against_products(connection, given.file)
    _check_against_source(connection, settings, given.file, recorded)
    if given.file.problems:
        raise BadCorrectionError(given.file.problems)
    texts = connection.execute(query("corrections/training_texts")).fetchall()
    due = due_for_holdout(connection, product_texts(texts))
    connection.execute("update correction set split = 'holdout' where productid = any(%s)", [due])
    connection.execute(query("corrections/mark_changes"))
    return len(due)


def _check_against_products(connection: Connection, file: CheckedFile) -> None:
    reported = {problem.line for problem in file.problems}
    for row, fault in connection.execute(query("corrections/faults")).fetchall():
        match fault:
            case "there already":
                reason, remedy = "the product is there already", "update it instead"
            case "deleted":
                reason, remedy = "the product was deleted", "insert it, or remove the row"
            case "unknown":
                reason, remedy = "no product has this productid", "correct the productid, or remove the row"
            case _:
                if file.line(row) in reported:
                    continue  # and what is missing may be what is reported
                reason = "a product that was not there before needs designation and prdtypecode"
                remedy = "fill them in"
        file.report(np.array([row]), "productid", reason, remedy)


def _check_against_source(
    connection: Connection, settings: Settings, file: CheckedFile, recorded: dict[str, Any]
) -> None:
    """Refuse to insert what the source files hold: a later week's product, with its rank and split, or one of the test set."""
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
            else "remove the row: its week brings it, and then it can be corrected"
        )
        file.report(found, "productid", f"{name} holds this product", remedy)


def _counts(connection: Connection, file: CheckedFile) -> dict[str, int]:
    [counts] = rows(connection, query("corrections/count_changes"))
    if not any(counts.values()):
        unchanged = "it changes nothing: every product is as the file says already"
        raise BadCorrectionError(
            [Problem(file.path.name, None, "", unchanged, "is it the file that was meant?")]
        )
    return counts
