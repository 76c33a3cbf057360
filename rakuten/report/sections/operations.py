"""The sections about the work itself: latencies, attempts, storage and problems."""

from dataclasses import asdict, replace
from itertools import groupby
from statistics import median

from db.sql import query
from rakuten.console import readable_bytes
from rakuten.report import figures
from rakuten.report.parts import NOTHING, Figure, Section, grid, pivot, plural, seconds
from rakuten.report.tables import Facts, Table
from rakuten.storage import STORAGE_QUERY
from rakuten.storage_table import sentences


def latencies(facts: Facts) -> Section:
    """Show the seconds of each step for each batch."""
    found = facts.rows("latencies")
    steps = list(dict.fromkeys(row["step"] for row in found))
    typical = {
        step: median(row["seconds"] for row in group)
        for step, group in (
            (step, [row for row in found if row["step"] == step and row["seconds"] is not None])
            for step in steps
        )
        if group
    }
    says = "Medians: " + ", ".join(f"{step} {seconds(value)} s" for step, value in typical.items()) + "."
    return Section(
        "latencies",
        "Latencies",
        "Each line is a step of the pipeline, and lower is faster; a wake is the time from the end of a step until the next "
        "worker has noticed it.",
        says,
        (facts.tables["latencies"],),
        (
            Figure(
                "latencies",
                figures.seconds_by_step(found, facts.batch_names),
                f"Lines on a logarithmic axis. {says}",
            ),
        ),
        grids=(
            pivot(
                "Seconds of each step", found, facts.batch_names, down="step", value="seconds", form=seconds
            ),
        ),
    )


def attempts(facts: Facts) -> Section:
    """Show how the attempts of both stages ended."""
    found = facts.rows("attempts")
    failures, outages = (sum(row[column] for row in found) for column in ("failures", "outages"))
    says = (
        f"{plural(failures, 'failure')} and {plural(outages, 'postponement')} by an outage in "
        f"{plural(sum(row['attempts'] for row in found), 'attempt')}."
    )
    return Section(
        "attempts",
        "Attempts and outages",
        "Each bar is the number of attempts for a batch: two that finished are the least, one for the dataset and one for the "
        "model. An outage of PostgreSQL, MLflow or the disk is not the fault of the batch, and its work is repeated.",
        says,
        (facts.tables["attempts"],),
        (
            Figure(
                "attempts",
                figures.attempts_by_batch(found, facts.batch_names),
                f"Stacked bars: attempts by how they ended. {says}",
            ),
        ),
        grids=(
            grid(
                "Attempts",
                found,
                batch_name="batch",
                stage="stage",
                state="state",
                attempts="attempts",
                failures="failures",
                outages="outages",
                ended_early="ended early",
                last_error="last error",
            ),
        ),
    )


def storage(facts: Facts) -> Section:
    """Show the bytes by place, the growth, and for how long the disk is large enough."""
    found = facts.storage.places
    places = [place for place in found if not place.is_part_of_database]
    listed = ", ".join(f"{place.object} {readable_bytes(place.bytes)}" for place in places)
    return Section(
        "storage",
        "Storage",
        "Each bar is a place that holds data. PostgreSQL knows its own size, and the sizes of the files in MLflow as the stages "
        "recorded them. The files in STATE_PATH are measured, and the copies of datasets, too, if the folder is on this machine.",
        " ".join(sentences(facts.storage)),
        (Table("storage", query(STORAGE_QUERY), [], ()),),
        (Figure("storage", figures.bytes_by_object(places), f"Bars: {listed}."),),
        grids=(
            grid(
                "Storage",
                [asdict(place) for place in found],
                {"bytes": _size, "bytes_per_week": _size},
                kind="kind",
                object="object",
                bytes="size",
                bytes_per_week="growth a week",
                is_part_of_database="part of the database",
            ),
        ),
    )


def _size(count: int | None) -> str:
    return NOTHING if count is None else readable_bytes(count)


def problems(facts: Facts) -> Section:
    """Show what the doctor finds in PostgreSQL."""
    found = facts.problems()
    counts = {severity: len(list(rows)) for severity, rows in groupby(found, lambda row: row["severity"])}
    says = "The doctor finds nothing wrong."
    if found:
        says = " and ".join(plural(count, severity) for severity, count in counts.items()) + "."
    if facts.at_rest:
        says += (
            " Nothing runs on the embedded PostgreSQL now, so the query's rows about missing listeners are left out. "
            "The pipeline continues with: rakuten up."
        )
    return Section(
        "problems",
        "Problems",
        "An error does not go away by itself, and a warning may; the last column says what to do. rakuten doctor also looks into "
        "MLflow, which this page does not.",
        says,
        (facts.tables["problems"],),
        grids=(
            replace(
                grid(
                    "Problems",
                    found,
                    severity="severity",
                    finding="finding",
                    subject="subject",
                    detail="detail",
                    remedy="what to do",
                ),
                is_open=True,
            ),
        ),
    )
