"""`rakuten verify`: is everything still what it was?"""

import json
from dataclasses import asdict

import typer
from rich.console import Console

from rakuten.provenance.verify import Check
from rakuten.provenance.verify import verify as look
from rakuten.session import open_session

_HINT = "rakuten reproduce BATCH builds it again from the audit trail; rakuten lineage BATCH shows what came of it"


def verify(as_json: bool = typer.Option(False, "--json", help="a JSON list of checks")) -> None:
    """Recompute the seals, and hold every run, file and model against its digests. Exit code 1 if anything was changed."""
    checks: list[Check] = []
    with open_session("verify") as session, Console(stderr=True).status("the seals") as status:
        for check in look(session.connection, session.tracking, session.settings.snapshots_path):
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
                f"{changed[0].batch_name or changed[0].subject} is the first that does not match. {_HINT}"
            )
        else:
            batches = len({check.batch_name for check in checks if check.subject == "seal"})
            untold = f"; of {len(unknown)} nothing can be told" if unknown else ""
            typer.echo(f"{len(checks):,} checks of {batches} batches: nothing was changed{untold}")
    if changed:
        raise typer.Exit(1)
