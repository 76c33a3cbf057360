"""Every stage beside the usual way and the physical limit, as ratios measured in one run.

    python tests/benchmarks/run.py [--only STAGE ...] [--rows N] [--training-rows N] [--history-rows N] [--events N] [--serving-rows N]
        [--json FILE]

Data are generated and PostgreSQL is embedded, both in a temporary directory that is removed. A ratio is one of CPU seconds
within a round, the database's included, and one of latencies over all events; the machine's noise is in its min and max.
A target that does not hold is reported and not an error: the exit code tells whether the benchmarks ran, not how fast the machine was.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_measure import Finding, Report
from rich.console import Console
from rich.table import Table

from shared.config import configure_third_parties

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # for the modules of the stages, imported late

ROWS = 84_916  # of the challenge's training file
HISTORY_ROWS = 1_000_000  # in which the past is looked up
EVENTS = 2_000  # of each system whose latency is measured
SERVING_ROWS = 10_000  # on which the served model is trained
STAGES = (
    "load",
    "snapshot",
    "snapshot_whole",
    "as_of",
    "plans",
    "training",
    "suspects",
    "chain",
    "latency",
    "serving",
    "metrics",
)

# of each stage: its samples, and which of them are the usual way and ours
_WEEK = (
    ("load", "usual at 97 %", "sealed at 97 %"),
    ("snapshot whole", "usual", "a week"),
    ("training, parquet to model", "usual", "ours"),
)

# a file or a pipe has no width, and 80 columns would break every line of the table
console = Console(width=None if sys.stdout.isatty() else 130)


def main() -> None:
    options = _options()
    configure_third_parties()
    reports = list(_reports(options))
    reports += _whole_week(reports, comparable=options.training_rows >= options.rows)
    findings = [finding for report in reports for finding in report.findings]
    console.print(_table(findings, options))
    _print_verdict(findings)
    if options.json is not None:
        options.json.write_text(json.dumps(_raw(options, reports), indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there")
    parser.add_argument("--rows", type=int, default=ROWS, help="training rows to generate (%(default)s)")
    parser.add_argument(
        "--training-rows",
        type=int,
        default=ROWS,
        help="rows on which training is compared with the usual way, at most --rows: it takes minutes a round (%(default)s)",
    )
    parser.add_argument(
        "--history-rows",
        type=int,
        default=HISTORY_ROWS,
        help="entries of the history in which the past is looked up (%(default)s)",
    )
    parser.add_argument(
        "--events", type=int, default=EVENTS, help="events to measure each latency on (%(default)s)"
    )
    parser.add_argument(
        "--serving-rows",
        type=int,
        default=SERVING_ROWS,
        help="rows on which the model of the model server is trained (%(default)s)",
    )
    parser.add_argument(
        "--only", choices=STAGES, nargs="+", default=STAGES, help="some stages instead of all"
    )
    return parser.parse_args()


def _reports(options: argparse.Namespace) -> Iterator[Report]:
    """Run the chosen stages. Their modules are imported late, so that a measured child imports only its own."""
    from bench_ground import loaded_weeks, prepared_ground  # noqa: PLC0415

    chosen = [stage for stage in STAGES if stage in options.only]
    on_database = [
        stage
        for stage in chosen
        if stage not in {"as_of", "plans", "training", "suspects", "latency", "serving", "metrics"}
    ]
    if on_database:
        with (
            console.status(f"generating {options.rows:,} rows and loading 21 weeks") as status,
            prepared_ground(options.rows) as ground,
            loaded_weeks(ground) as weeks,
        ):
            for stage in on_database:
                status.update(f"measuring: {stage}")
                yield importlib.import_module(f"bench_{stage}").run(ground, weeks)
    for stage in [stage for stage in ("as_of", "plans") if stage in chosen]:
        with console.status(
            f"writing a history of {options.history_rows:,} entries, then measuring: {stage}"
        ):
            yield importlib.import_module(f"bench_{stage}").run(options.history_rows)
    rows = min(options.rows, options.training_rows)
    if "training" in chosen:
        with console.status(f"measuring: training on {rows:,} rows"), prepared_ground(rows) as ground:
            yield importlib.import_module("bench_training").run(ground)
    if "suspects" in chosen:
        with console.status(f"measuring: suspects among {rows:,} rows"):
            yield importlib.import_module("bench_suspects").run(rows)
    if "latency" in chosen:
        with console.status(f"measuring: latency of {options.events:,} events"):
            yield importlib.import_module("bench_latency").run(options.events)
    if "serving" in chosen:
        with console.status(f"measuring: a model server with a model of {options.serving_rows:,} rows"):
            yield importlib.import_module("bench_serving").run(options.serving_rows)
    if "metrics" in chosen:
        with (
            console.status(f"measuring: weeks of {rows:,} rows with and without metrics"),
            prepared_ground(rows) as ground,
        ):
            yield importlib.import_module("bench_metrics").run(ground)


def _whole_week(reports: list[Report], *, comparable: bool) -> list[Report]:
    """The last week from the files to the fitted model, where all three stages were measured on the same rows."""
    samples = {name: of for report in reports for name, of in report.samples.items()}
    if not comparable or any(stage not in samples for stage, _, _ in _WEEK):
        return []
    usual, ours = (
        sum(statistics.median(sample.cpu_s for sample in samples[stage][variant]) for stage, variant in part)
        for part in zip(*(((stage, usual), (stage, ours)) for stage, usual, ours in _WEEK), strict=True)
    )
    report = Report()
    what = f"the usual way, files to fitted model, {usual:,.0f} s of CPU / ours, {ours:,.0f} s"
    report.add("week", what, usual / ours, "x", at_least=5)
    return [report]


def _table(findings: list[Finding], options: argparse.Namespace) -> Table:
    title = f"{options.rows:,} rows (training: {min(options.rows, options.training_rows):,})"
    table = Table(title=title, caption="ratios of CPU seconds; wall: the same ratio by the clock on the wall")
    for name in ("stage", "what"):
        table.add_column(name)
    for name in ("min", "median", "max", "wall", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("holds", justify="center")
    for position, finding in enumerate(findings):
        last_of_stage = position + 1 == len(findings) or findings[position + 1].stage != finding.stage
        table.add_row(*_cells(finding), end_section=last_of_stage)
    return table


def _cells(finding: Finding) -> list[str]:
    extremes = (min(finding.values), max(finding.values)) if len(finding.values) > 1 else (None, None)
    wall = Finding(finding.stage, finding.what, finding.wall).median if finding.wall else None
    low, median, high, clock = (
        "" if value is None else _shown(value, finding.unit)
        for value in (extremes[0], finding.median, extremes[1], wall)
    )
    holds = {None: "", True: "[green]yes[/]", False: "[bold red]NO[/]"}[finding.holds]
    return [finding.stage, finding.what, low, median, high, clock, _target(finding), holds]


def _shown(value: float, unit: str) -> str:
    return f"{value:+.4f}" if not unit else f"{value:,.0f} MB" if unit == "MB" else f"{value:.2f} {unit}"


def _target(finding: Finding) -> str:
    if finding.at_most is not None:
        return f"<= {finding.at_most:g} {finding.unit}"
    return "" if finding.at_least is None else f">= {finding.at_least:g} {finding.unit}"


def _print_verdict(findings: list[Finding]) -> None:
    held = [finding for finding in findings if finding.holds]
    missed = [finding for finding in findings if finding.holds is False]
    console.print(f"{len(held)} of {len(held) + len(missed)} targets hold")
    for finding in missed:
        console.print(
            f"[bold red]does not hold[/]: {finding.stage}, {finding.what}: "
            f"{_shown(finding.median, finding.unit)}, target {_target(finding)}"
        )


def _raw(options: argparse.Namespace, reports: list[Report]) -> dict[str, Any]:
    return {
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
        },
        "rows": options.rows,
        "training_rows": min(options.rows, options.training_rows),
        "history_rows": options.history_rows,
        "events": options.events,
        "serving_rows": options.serving_rows,
        "findings": [
            asdict(finding) | {"median": finding.median, "holds": finding.holds}
            for report in reports
            for finding in report.findings
        ],
        "samples": {
            stage: {name: [asdict(sample) for sample in several] for name, several in samples.items()}
            for report in reports
            for stage, samples in report.samples.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
