"""Check in PostgreSQL alone that nobody changed the schema, the present rows, the history, the batches or their records."""

from collections.abc import Iterator

import psycopg
from psycopg.rows import TupleRow

from db.protections import deviations
from db.sql import query
from rakuten.provenance.checks import Check


def verify_database(connection: psycopg.Connection[TupleRow]) -> Iterator[Check]:
    """Check everything that PostgreSQL can check without MLflow."""
    yield from verify_schema(connection)
    yield from verify_rows(connection)
    yield from verify_batches(connection)
    yield from verify_records(connection)


def verify_schema(connection: psycopg.Connection[TupleRow]) -> list[Check]:
    """Check that every trigger, function, right and table is as this version of the code creates it."""
    found = deviations(connection)
    if not found:
        return [Check("", "schema")]
    return [Check("", item.subject, item.problem, remedy=item.remedy) for item in found]


def verify_rows(connection: psycopg.Connection[TupleRow]) -> list[Check]:
    """Check that each product and each label is as the history recorded it last."""
    found = connection.execute(query("provenance/unrecorded_changes")).fetchall()
    problems = {
        name: f"{count} rows differ from the history, for example that of productid {productid}"
        for name, count, productid in found
    }
    remedy = "restore a backup, or record the difference: rakuten correct FILE"
    return [Check("", name, problems.get(name), remedy=remedy) for name in ("products", "labels")]


def verify_batches(connection: psycopg.Connection[TupleRow]) -> list[Check]:
    """Check the seal (the digest) of each completed batch. Return the results in the order in which the batches completed."""
    rows = connection.execute("select batch_name, problem from verify_seals()").fetchall()
    return [Check(name, "seal", problem) for name, problem in rows]


def verify_records(connection: psycopg.Connection[TupleRow]) -> list[Check]:
    """Check that what a stage recorded about each batch, such as times and scores, still has the digest of its end."""
    rows = connection.execute(query("provenance/stage_records")).fetchall()
    return [Check(name, f"record of {stage}", None if same else "was changed") for name, stage, same in rows]
