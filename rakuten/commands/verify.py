"""`rakuten verify`: check that no batch, MLflow run, dataset file or model was changed since it was recorded."""

import json
from dataclasses import asdict
from typing import Final

import psycopg
import typer

from rakuten.console import working
from rakuten.provenance.checks import Cause, Check
from rakuten.provenance.verify import verify as run_checks
from rakuten.session import Session, open_session

EXAMPLES: Final = ("rakuten verify",)

_HINT = "rakuten reproduce BATCH rebuilds the dataset and model of BATCH; rakuten lineage BATCH shows what was built from it"


def verify(as_json: bool = typer.Option(False, "--json", help="print all checks as JSON")) -> None:
    """Recompute the hash chain of the batches, and compare each MLflow run, file and model with its recorded digest.

    The chain consists of one seal per batch: a digest that also covers the seal of the batch before. The exit code is 1 if
    anything was changed. A run in MLflow whose batch PostgreSQL does not have is listed, and is no change. PostgreSQL records when
    the command ended and how many changes it found, in the table verifications.
    """
    checks: list[Check] = []
    with open_session("verify") as session, working("checking the seals") as status:
        for check in run_checks(session.connection, session.tracking, session.settings.snapshots_path):
            status.update(f"{check.batch_name} {check.subject}")
            checks.append(check)
        if as_json:
            typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
        else:
            _print(checks)
        _record(session, checks)
    if _changes(checks):
        raise typer.Exit(1)


def _record(session: Session, checks: list[Check]) -> None:
    """Record in PostgreSQL that the checks were made, and how many found a change. Prometheus reads this record."""
    try:
        session.connection.execute("select record_verification(%s, %s)", [len(checks), len(_changes(checks))])
    except (
        psycopg.Error
    ) as error:  # a standby, a login without the right, or a connection that was lost meanwhile
        reason = error.diag.message_primary or str(error).strip()
        typer.echo(f"PostgreSQL does not record that the checks were made: {reason}", err=True)


def _changes(checks: list[Check]) -> list[Check]:
    return [check for check in checks if check.problem is not None and check.certain]


def _print(checks: list[Check]) -> None:
    for cause in Cause:
        for check in checks:
            if check.problem is not None and check.cause is cause:
                where = f"{check.batch_name}: " if check.batch_name else ""
                typer.echo(f"{cause}: {where}{check.subject}: {check.problem}")
    failed = [check for check in checks if check.problem is not None]
    for remedy in dict.fromkeys(check.remedy for check in failed if check.remedy):
        typer.echo(f"    remedy: {remedy}")
    if changed := _changes(checks):
        first = next((check.batch_name for check in changed if check.batch_name), changed[0].subject)
        typer.echo(f"start with {first}. {_HINT}")
        return
    batches = len({check.batch_name for check in checks if check.subject == "seal"})
    counts = {cause: sum(check.cause is cause for check in failed) for cause in Cause}
    others = "".join(f"; {cause}: {count}" for cause, count in counts.items() if count)
    typer.echo(f"{len(checks):,} checks of {batches} batches: nothing was changed{others}")
