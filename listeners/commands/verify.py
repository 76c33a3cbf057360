"""`rakuten verify`: is everything still what it was?"""

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.progress import track

from db.connect import connect
from db.database import Role, open_database
from shared.config import configure_third_parties, read_settings

_HINT = "rakuten reproduce BATCH builds it again from the audit trail; rakuten lineage BATCH shows what came of it"


def verify(as_json: bool = typer.Option(False, "--json", help="a JSON list of checks")) -> None:
    """Recompute the seals, and hold every run, file and model against its digests. Exit code 1 if anything was changed."""
    configure_third_parties()
    # MLflow takes seconds to import: only the commands that need it pay for it
    from listeners.mlflow_runs import Tracking  # noqa: PLC0415
    from listeners.verify import recorded_stages, verify_batches, verify_stage  # noqa: PLC0415

    settings = read_settings()
    errors = Console(stderr=True)
    with (
        open_database(settings) as database,
        connect(database.conninfo(Role.READER), "rakuten verify", autocommit=True) as connection,
    ):
        checks = verify_batches(connection)
        stages = recorded_stages(connection)
        tracking = Tracking(settings) if stages else None
        for stage in track(stages, "runs and their files", console=errors, disable=not errors.is_terminal):
            assert tracking is not None  # noqa: S101  there are stages
            checks += verify_stage(tracking, stage, settings.state_path / "training_snapshots")
    changed = [check for check in checks if check.problem is not None and check.certain]
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            if check.problem is not None:
                typer.echo(
                    f"{'changed' if check.certain else 'unknown'}: {check.batch_name}: {check.subject}: {check.problem}"
                )
        if changed:
            typer.echo(f"{changed[0].batch_name} is the first that does not match. {_HINT}")
        else:
            batches = len({check.batch_name for check in checks})
            typer.echo(f"{len(checks):,} checks of {batches} batches: nothing was changed")
    if changed:
        raise typer.Exit(1)
