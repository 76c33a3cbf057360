"""Every query over the big tables with statistics missing, stale and fresh: no state may cost more than three times the best.

PostgreSQL plans a query from statistics. Right after a load, a restore or an upgrade it has none, or those of a table a hundredth
as large. The plan that it then chooses must still be a good one. The three databases are copies of one: the same pages, and only
the statistics differ.
"""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psycopg
from bench_measure import Report, Sample, alternate, timed
from history_queries import Case, cases_of
from long_history import forget_statistics, write_history
from psycopg import sql

from db.connect import connect
from db.database import Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from shared.config import read_settings

STAGE = "plans"
STATES = ("missing", "stale", "fresh")
ROUNDS = 3
_TIMEOUT_S = 30
_FLOOR_S = 0.02  # what takes less counts as this much: there, noise is larger than any difference


def run(history_rows: int) -> Report:
    """Write a history of that many entries of products, and run every query in each state of the statistics."""
    directory = Path(tempfile.mkdtemp(prefix="rakuten-benchmarks-"))
    settings = read_settings(postgres_db="stale", state_path=directory, _env_file=None)
    options = {"bindir": settings.pg_bindir, "durable": False, "settings": {"autovacuum": "off"}}
    try:
        with EmbeddedPostgres(directory / "postgres", **options) as server:
            conninfo = prepare_embedded(settings, server).conninfo(Role.LOADER)
            with (
                connect(conninfo, "benchmark plans", autocommit=True) as loader,
                _superuser(server, "stale") as superuser,
            ):
                write_history(loader, superuser, history_rows)
            for state in ("missing", "fresh"):
                with _superuser(server, "postgres") as superuser:
                    create = sql.SQL("create database {} template stale strategy file_copy")
                    superuser.execute(create.format(sql.Identifier(state)))
                with _superuser(server, state) as superuser:
                    if state == "missing":
                        forget_statistics(superuser)
                    else:
                        superuser.execute("analyze")
            return _compare(server)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _superuser(server: EmbeddedPostgres, name: str) -> psycopg.Connection:
    return psycopg.connect(server.conninfo(name), autocommit=True)


def _compare(server: EmbeddedPostgres) -> Report:
    with _superuser(server, "fresh") as connection:
        cases = cases_of(connection)
    report = Report()
    with ExitStack() as stack:
        connections = {
            state: stack.enter_context(connect(server.conninfo(state), "benchmark plans")) for state in STATES
        }
        for name, case in cases.items():
            variants: dict[str, Callable[[], Sample]] = {
                state: partial(_timed, connection, case) for state, connection in connections.items()
            }
            samples = report.samples[f"{STAGE} {name}"] = alternate(variants, ROUNDS)
            seconds = [
                {state: max(samples[state][number].cpu_s, _FLOOR_S) for state in STATES}
                for number in range(ROUNDS)
            ]
            worst = max(STATES, key=lambda state: sum(each[state] for each in seconds))
            best_s = min(min(each.values()) for each in seconds)
            what = f"{name}: {worst} ÷ best ({best_s:.2f} s)"
            report.add(
                STAGE, what, tuple(each[worst] / min(each.values()) for each in seconds), "x", at_most=3
            )
    return report


def _timed(connection: psycopg.Connection, case: Case) -> Sample:
    """The sample of one statement, whose result and changes are thrown away."""

    def execute() -> None:
        try:
            connection.execute(f"explain (analyze, timing off) {case.statement}", case.parameters or None)
        except psycopg.errors.QueryCanceled:
            print(f"cancelled after {_TIMEOUT_S} s: {case.statement[:200]}")

    connection.execute(f"set local statement_timeout = '{_TIMEOUT_S}s'")
    for statement in case.before:
        connection.execute(statement)
    sample = timed(execute, connection.info.backend_pid)
    connection.rollback()
    return sample
