"""The sections about the work itself: latencies, attempts, storage and problems."""

from dataclasses import replace
from itertools import groupby
from statistics import median
from typing import Final

from rakuten.report import figures
from rakuten.report.parts import Figure, Section, grid, percent, pivot, plural, seconds, size
from rakuten.report.tables import Facts

_WEEKS_OF_YEAR: Final = 52
_FEW_YEARS: Final = 2  # until then, the weeks are said
_CENTURY: Final = 100


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


def weekly_growth(facts: Facts) -> float | None:
    """Return the bytes that the data grows by each week, or None before two weeks are known."""
    known = [
        row["bytes_per_week"]
        for row in facts.rows("storage")
        if row["bytes_per_week"] is not None and not row["is_part_of_database"]
    ]
    return sum(known) if known else None


def weeks_left(facts: Facts) -> float | None:
    """Return the weeks until the disk is full if the data grows as it did, or None if it does not grow."""
    growth = weekly_growth(facts)
    return facts.disk.free_bytes / growth if growth is not None and growth > 0 else None


def when_full(facts: Facts) -> str:
    """Say in how many weeks the disk is full."""
    weeks, growth = weeks_left(facts), weekly_growth(facts)
    if growth is None:
        return "The growth is known after two weeks."
    if weeks is None:
        return "The data does not grow."
    years = weeks / _WEEKS_OF_YEAR
    until = (
        f"{plural(round(weeks), 'week')}"
        if years < _FEW_YEARS
        else f"about {years:,.0f} years"
        if years < _CENTURY
        else "more than a century"
    )
    return f"The data grows by {size(growth)} a week, so the disk is full in {until}."


def storage(facts: Facts) -> Section:
    """Show the bytes by place, the growth, and when the disk is full."""
    found, disk = facts.rows("storage"), facts.disk
    places = [row for row in found if not row["is_part_of_database"]]
    total = sum(row["bytes"] for row in places)
    listed = ", ".join(f"{row['object']} {size(row['bytes'])}" for row in places)
    says = (
        f"The data takes {size(total)}. The disk of {disk.path} has {size(disk.free_bytes)} free of {size(disk.size_bytes)} "
        f"({percent(disk.free_bytes / disk.size_bytes)}). {when_full(facts)}"
    )
    return Section(
        "storage",
        "Storage",
        "Each bar is a place that holds data; the files in MLflow and the copies are as large as the stages recorded, and they may "
        "be on another disk.",
        says,
        (facts.tables["storage"],),
        (Figure("storage", figures.bytes_by_object(places), f"Bars: {listed}."),),
        grids=(
            grid(
                "Storage",
                found,
                {"bytes": size, "bytes_per_week": size},
                kind="kind",
                object="object",
                bytes="size",
                bytes_per_week="growth a week",
                is_part_of_database="part of the database",
            ),
        ),
    )


def problems(facts: Facts) -> Section:
    """Show what the doctor finds in PostgreSQL."""
    found = facts.rows("problems")
    counts = {severity: len(list(rows)) for severity, rows in groupby(found, lambda row: row["severity"])}
    says = "The doctor finds nothing wrong."
    if found:
        says = " and ".join(plural(count, severity) for severity, count in counts.items()) + "."
    if facts.at_rest:
        says += " Nothing runs on this machine now; the pipeline goes on with: rakuten up."
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
