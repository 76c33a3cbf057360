"""Batches with everything that the report shows, written through the functions of the schema, without stages and MLflow.

21 weeks, ten corrections (one after each second week), a promotion for most weeks, one rollback, a failure, an outage, drift and
suspects. One product's title is an attack on the page.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from long_history import LABELS, PRODUCTS, RETITLE, write_batch
from psycopg.types.json import Jsonb

from db.database import Database, Role
from shared.categories import CATEGORIES

ATTACK: Final = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \u2028 {{ 7 * 7 }} <!-- '\"&"
WEEKS: Final = 21
CORRECTIONS: Final = 10
FIRST: Final = 240  # products of the first week
MORE: Final = 18  # of each later week
FEATURES: Final = ("class shares", "title length", "description length", "language", "missing descriptions")
MODEL_FEATURES: Final = ("unknown words", "confidence")
_CODES: Final = list(CATEGORIES)
_TO_REAL_CODES: Final = """
    update labels set prdtypecode = (%s::integer[])[1 + (id %% 27)::integer] where id >= %s
"""


def write_report_history(database: Database, *, weeks: int = WEEKS, old_weeks: int = 1) -> None:
    """Write the batches. Those of the first `old_weeks` weeks are of a version that recorded no drift, suspects, or F1 by class."""
    with _connect(database, Role.LOADER) as loader:
        next_product, correction = 1, 1
        for week in range(1, weeks + 1):
            count = FIRST if week == 1 else MORE
            last = next_product + count - 1
            load = [
                (PRODUCTS, [next_product, last]),
                (LABELS, [next_product]),
                (_TO_REAL_CODES, [_CODES, next_product]),
            ]
            write_batch(loader, f"week_{week}", load)
            next_product = last + 1
            _work(database, f"week_{week}", week, recorded=week > old_weeks)
            if week % 2 == 0 and correction <= CORRECTIONS:
                name = f"correction_{correction}"
                changes = [(RETITLE, [f" {correction}", correction])]
                if correction == CORRECTIONS:
                    changes.append(("update products set designation = %s where id = 1", [ATTACK]))
                write_batch(loader, name, changes)
                _work(database, name, week, recorded=True)
                correction += 1
            if week == 13:
                _move(database, "rollback", 16, 14, "somebody", ATTACK)


def _connect(database: Database, role: Role) -> Any:
    return database.connect(role, "test", autocommit=True)


def _work(database: Database, name: str, week: int, *, recorded: bool) -> None:
    """Do both stages of a batch. The training of week_5 fails once, and an outage postpones the dataset of week_9."""
    with _connect(database, Role.SNAPSHOT) as connection:
        [(batch_id, number)] = connection.execute(
            "select id, chain_number from batches where batch_name = %s", [name]
        ).fetchall()
        if name == "week_9":
            attempt = _claim(connection, batch_id, "snapshot")
            connection.execute(
                "select postpone_stage(%s, 'snapshot', %s, 'MLflow: <b>down</b>', '0 s', '0 s')",
                [batch_id, attempt],
            )
        _finish(connection, batch_id, "snapshot", _dataset(name, number, recorded=recorded))
    with _connect(database, Role.TRAINING) as connection:
        if name == "week_5":
            attempt = _claim(connection, batch_id, "training")
            connection.execute(
                "select fail_stage(%s, 'training', %s, 'it did not converge', '0 s')", [batch_id, attempt]
            )
        _finish(
            connection,
            batch_id,
            "training",
            _model(number, week, recorded=recorded, is_week=name.startswith("week_")),
        )
    if number % 4 != 3:
        _move(database, "promotion", number - 1 or None, number, f"model_{name}", "not significantly worse")


def _claim(connection: psycopg.Connection, batch_id: int, stage: str) -> int:
    [(attempt,)] = connection.execute(
        "select claim_stage(%s, %s, 'host:1', 'notify', '0 s')", [batch_id, stage]
    ).fetchall()
    return int(attempt)


def _finish(connection: psycopg.Connection, batch_id: int, stage: str, result: dict[str, Any]) -> None:
    attempt = _claim(connection, batch_id, stage)
    connection.execute("select finish_stage(%s, %s, %s, %s)", [batch_id, stage, attempt, Jsonb(result)])


def _drift(features: tuple[str, ...], number: int) -> list[dict[str, Any]]:
    return [
        {
            "feature": feature,
            "reference": reference,
            "rows": MORE,
            "reference_rows": FIRST,
            "psi": 0.02 * (place + 1),
            "js": (js := 0.001 * (1 + (place * 5 + number * 3) % 7)),
            "noise": 0.006,
            "drifted": js > 0.006,
        }
        for place, feature in enumerate(features)
        for reference in ("first", "before")
    ]


def _dataset(name: str, number: int, *, recorded: bool) -> dict[str, Any]:
    result = {
        "run_id": f"{number:032x}",
        "dataset": f"train_{name}",
        "total_rows": 27 * (10 + number),
        "dataset_sha256": _digest("file", number),
        "dataset_digest": _digest("content", number),
        "artifact_bytes": {f"train_{name}.parquet": 250_000 + 9_000 * number},
    }
    if recorded and name.startswith("week_"):
        result["drift"] = _drift(FEATURES, number)
    return result


def _model(number: int, week: int, *, recorded: bool, is_week: bool) -> dict[str, Any]:
    f1 = 0.66 + 0.16 * (1 - 0.88**week) + 0.004 * ((number * 5) % 3 - 1)
    result: dict[str, Any] = {
        "run_id": f"{1000 + number:032x}",
        "model_version": number,
        "champion": number % 4 != 3,
        "f1_score": f1,
        "f1_score_ci_low": f1 - 0.035,
        "f1_score_ci_high": f1 + 0.033,
        "f1_macro": f1 - 0.05,
        "accuracy": f1 + 0.004,
        "manifest_sha256": _digest("manifest", number),
        "artifact_bytes": {"model": 18_000_000 + 400_000 * number},
    }
    if recorded:
        result["f1_by_class"] = {
            str(code): max(0.05, min(0.98, f1 + 0.25 * (((place * 7) % 11) / 10 - 0.55)))
            for place, code in enumerate(CATEGORIES)
        }
        top = [
            {
                "productid": 1000000 + (place * 7919) % 99999989,
                "prdtypecode": 10,
                "suggested": 2280,
                "probability": 0.99 - place / 50,
            }
            for place in range(1, 21)
        ]
        result["suspects"] = {"count": 30 + 4 * number, "top": top}
        result["drift"] = _drift(MODEL_FEATURES, number) if is_week else []
    return result


def _move(
    database: Database, kind: str, from_version: int | None, to_version: int, moved_by: str, reason: str
) -> None:
    move = {
        "number": to_version,
        "kind": kind,
        "from_version": from_version,
        "to_version": to_version,
        "run_id": f"{1000 + to_version:032x}",
        "at": datetime.now(UTC).isoformat(),
        "by": moved_by,
        "reason": reason,
        "sha256": _digest(kind, to_version),
    }
    with _connect(database, Role.TRAINING) as connection:
        connection.execute("select record_champion_moves(%s)", [Jsonb([move])])


def _digest(text: str, number: int) -> str:
    return hashlib.sha256(f"{text} {number}".encode()).hexdigest()
