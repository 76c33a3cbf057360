"""`rakuten verify`: check that no batch, MLflow run, dataset file or model was changed since it was recorded."""

import json
from dataclasses import asdict

import typer
from rich.console import Console

from rakuten.provenance.verify import Check
from rakuten.provenance.verify import verify as run_checks
from rakuten.session import open_session

_HINT = "rakuten reproduce BATCH rebuilds the dataset and model of BATCH; rakuten lineage BATCH shows what was built from it"


def verify(as_json: bool = typer.Option(False, "--json", help="print all checks as JSON")) -> None:
    """Recompute the hash chain of the batches, and compare each MLflow run, file and model with its recorded digest.

    The chain consists of one seal per batch: a digest that also covers the seal of the batch before. The exit code is 1 if
    anything was changed.
    """
    checks: list[Check] = []
    with open_session("verify") as session, Console(stderr=True).status("checking the seals") as status:
        for check in run_checks(session.connection, session.tracking, session.settings.snapshots_path):
            status.update(f"{check.batch_name} {check.subject}")
            checks.append(check)
    changed = [check for check in checks if check.problem is not None and check.certain]
    unknown = [check for check in checks if check.problem is not None and not check.certain]
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for what, found in (("changed", changed), ("unknown", unknown)):
            for check in found:
                where = f"{check.batch_name}: " if check.batch_name else ""
                typer.echo(f"{what}: {where}{check.subject}: {check.problem}")
        if changed:
            typer.echo(
                f"the first change listed above is in {changed[0].batch_name or changed[0].subject}. {_HINT}"
            )
        else:
            batches = len({check.batch_name for check in checks if check.subject == "seal"})
            undecided = f"; undecided checks: {len(unknown)}" if unknown else ""
            typer.echo(f"{len(checks):,} checks of {batches} batches: nothing was changed{undecided}")
    if changed:
        raise typer.Exit(1)
