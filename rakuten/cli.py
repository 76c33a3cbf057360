"""`rakuten`: the command line. Each group of commands lives in `rakuten/commands/`; this module only wires them."""

import sys

import psycopg
import sqlalchemy.exc
import typer
from rich.console import Console

from rakuten.commands import (
    champion,
    correct,
    data,
    db,
    demo,
    diff,
    doctor,
    events,
    lineage,
    listen,
    load,
    prove,
    reproduce,
    retry,
    rollback,
    status,
    taint,
    verify,
)
from shared.errors import PipelineError
from shared.logs import censor, configure_logs

app = typer.Typer(
    name="rakuten",
    help="Event-driven MLOps on PostgreSQL: a weekly load, an audit trail, balanced datasets, models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(db.app, name="db")
app.add_typer(data.app, name="data")
app.add_typer(listen.app, name="listen")
app.command("demo")(demo.demo)
app.command("load")(load.load)
app.command("correct")(correct.correct)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("events")(events.events)
app.command("retry")(retry.retry)
app.command("diff")(diff.diff)
app.command("taint")(taint.taint)
app.command("lineage")(lineage.lineage)
app.command("verify")(verify.verify)
app.command("reproduce")(reproduce.reproduce)
app.command("prove")(prove.prove)
app.command("champion")(champion.champion)
app.command("rollback")(rollback.rollback)


def main() -> None:
    """Run a command: exit code 2 for bad input, 1 for failures, and no traceback for what is expected."""
    configure_logs("console", "WARNING")  # to standard error; `rakuten listen` has its own say
    try:
        app()
    except PipelineError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
        _print_error(_readable(error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (said := _outage(error)) is None:
            raise
        _print_error(said)
        sys.exit(1)


def _outage(error: Exception) -> str | None:
    """What is away, in a command that has MLflow to do with: the others need not import it to know that it is not."""
    if "mlflow" not in sys.modules:
        return None
    from listeners.outages import outage_of  # noqa: PLC0415  it imports MLflow

    if (outage := outage_of(error)) is None:
        return None
    return f"{outage.message}\n  remedy: repeat the command when it is back; MLFLOW_TRACKING_URI says where MLflow is"


def _readable(error: BaseException | None) -> str:
    """What PostgreSQL said, and what to do about it where that is clear; raises what is a defect of ours."""
    said = censor(str(error)).strip()
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedFunction():
            return f"the database has no schema, or an older one: {said}\n  remedy: rakuten db upgrade"
        case psycopg.errors.InsufficientPrivilege():
            return f"{said}\n  remedy: log in as a member of the role whose step this is (POSTGRES_USER)"
        case psycopg.OperationalError() | None:
            return f"PostgreSQL was lost: {said}"
    raise error


def _print_error(message: str) -> None:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print("error:", style="bold red", end=" ")
    errors.print(message, markup=False)


if __name__ == "__main__":
    main()
