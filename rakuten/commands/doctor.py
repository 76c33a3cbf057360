"""`rakuten doctor`: list the problems in PostgreSQL and in MLflow, and the differences between the two."""

import importlib.util
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import psycopg
import typer

from db import batches
from db.protections import deviations
from listeners.run import MISSED_PINGS
from rakuten.console import readable_bytes, working
from rakuten.session import Session, open_session
from rakuten.storage import measure_storage
from shared.events import Stage

EXAMPLES: Final = ("rakuten doctor", "rakuten doctor --json")

Finding = dict[str, str]


def doctor(as_json: bool = typer.Option(False, "--json", help="print the problems as a JSON list")) -> None:
    """List the problems of the pipeline, each with its remedy.

    A problem is a warning or an error. The pipeline does not recover from an error by itself. If there is an error,
    the exit code is 1. That no listener runs is no problem of the embedded PostgreSQL on your own machine, but an error on a
    server (POSTGRES_HOST).
    """
    with open_session("doctor") as session, working("looking for problems"):
        findings = _in_schema(session) + _in_postgresql(session)
        rests = session.database.embedded is not None and not batches.listening_stages(session.connection)
        if rests:
            findings = [finding for finding in findings if finding["finding"] != "no listener"]
        if batches.stage_ledger(session.connection):
            findings += _in_mlflow(session)
        findings += _on_disk(session)
    findings.sort(key=lambda finding: (finding["severity"], finding["finding"], finding["subject"]))
    if as_json:
        typer.echo(json.dumps(findings, indent=2))
    else:
        for finding in findings:
            typer.echo(
                f"{finding['severity']}: {finding['finding']}: {finding['subject']}: {finding['detail'] or ''}"
            )
            typer.echo(f"    remedy: {finding['remedy']}")
        if not findings:
            typer.echo("no problems found")
        if rests:
            typer.echo("nothing runs on this machine now; the pipeline goes on with: rakuten up")
    if any(finding["severity"] == "error" for finding in findings):
        raise typer.Exit(1)


def _in_schema(session: Session) -> list[Finding]:
    return [
        {
            "severity": "error",
            "finding": "the schema was changed",
            "subject": found.subject,
            "detail": found.problem,
            "remedy": found.remedy,
        }
        for found in deviations(session.connection)
    ]


def _in_postgresql(session: Session) -> list[Finding]:
    settings = session.settings
    silence = timedelta(seconds=MISSED_PINGS * (settings.ping_interval_s + settings.ping_deadline_s))
    return batches.pipeline_doctor(session.connection, unresponsive_after=silence)


def _on_disk(session: Session) -> Iterator[Finding]:
    """Report a disk that will soon be full, if this machine holds data of the pipeline and not only the command."""
    if session.database.embedded is None and not session.settings.snapshots_path.exists():
        return
    try:
        storage = measure_storage(session.connection, session.settings)
    except (
        psycopg.ProgrammingError
    ):  # a view or a right is missing, which is a problem of the schema and reported there
        return
    if storage.is_nearly_full:
        yield {
            "severity": "warning",
            "finding": "the disk will be full soon",
            "subject": str(storage.disk.path),
            "detail": f"{readable_bytes(storage.disk.free_bytes)} are free, and the data grows by about "
            f"{readable_bytes(storage.bytes_per_week or 0)} a week: rakuten status --storage",
            "remedy": "free space on the disk, or move the folder STATE_PATH to a larger one; "
            "MLflow also has the files in STATE_PATH/training_snapshots, of which only the newest one is needed",
        }


def _in_mlflow(session: Session) -> Iterator[Finding]:
    if importlib.util.find_spec("mlflow") is None:
        typer.echo(
            "MLflow was not checked: its client is not installed (pip install 'rakuten-pipeline[ml]')",
            err=True,
        )
        return
    # `reconcile` and `outages` import MLflow, which takes seconds. So import them only if MLflow is checked.
    from listeners import reconcile  # noqa: PLC0415
    from listeners.outages import outage_of  # noqa: PLC0415
    from listeners.tracking import ownership  # noqa: PLC0415
    from rakuten.provenance.orphans import orphaned_champion  # noqa: PLC0415

    try:
        identity = ownership.identity_of(session.connection)
        foreign = {
            name: owner
            for name, owner in ownership.owners(session.tracking).items()
            if owner not in {None, identity}
        }
        for name, owner in foreign.items():
            yield {
                "severity": "error",
                "finding": "name in MLflow belongs to another database",
                "subject": name,
                "detail": f"it belongs to {owner}; this database is {identity}",
                "remedy": ownership.FOREIGN_REMEDY,
            }
        if foreign:
            return  # the differences would be those between this database and the runs of the other one
        if (champion := orphaned_champion(session.tracking, session.connection)) is not None:
            yield {
                "severity": "error",
                "finding": "the champion is a model of an unknown batch",
                "subject": f"version {champion.version}",
                "detail": "PostgreSQL was restored to an earlier time, or the batch was deleted",
                "remedy": "rakuten orphans --supersede",
            }
        for stage in Stage:
            for found in reconcile.disagreements(session.tracking, session.connection, stage):
                yield {
                    "severity": "warning" if found.kind is reconcile.Mismatch.ORPHANED else "error",
                    "finding": found.kind,
                    "subject": f"{found.batch_name or f'batch {found.batch_id}'} {stage}",
                    "detail": f"run {found.run_id}",
                    "remedy": reconcile.REMEDY[found.kind],
                }
    except Exception as error:
        if (outage := outage_of(error)) is None:
            raise
        yield {
            "severity": "error",
            "finding": "MLflow cannot be used",
            "subject": session.settings.tracking_uri
            if session.settings.mlflow_tracking_uri is None
            else "MLFLOW_TRACKING_URI",
            "detail": outage.message,
            "remedy": f"{outage.remedy or 'start MLflow, or correct MLFLOW_TRACKING_URI'}; the listeners wait for it",
        }
