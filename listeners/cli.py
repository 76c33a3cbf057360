"""`rakuten`: the command line. Each group of commands lives in `listeners/commands/`; this module only wires them."""

import sys

import psycopg
import typer
from rich.console import Console

from listeners.commands import data, database, demo, listen, load, status
from shared.errors import PipelineError

app = typer.Typer(
    name="rakuten",
    help="Event-driven MLOps on PostgreSQL: a weekly load, an audit trail, balanced datasets, models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(database.app, name="db")
app.add_typer(data.app, name="data")
app.add_typer(listen.app, name="listen")
app.command("demo")(demo.demo)
app.command("load")(load.load)
app.command("status")(status.status)
app.command("doctor")(status.doctor)
app.command("events")(status.events)
app.command("retry")(status.retry)


def main() -> None:
    """Run a command: exit code 2 for bad input, 1 for failures, and no traceback for what is expected."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app()
    except PipelineError as error:
        errors.print("error:", style="bold red", end=" ")
        errors.print(str(error), markup=False)
        sys.exit(error.exit_code)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
        errors.print(f"error: the database has no schema, or an older one: {error}".strip(), markup=False)
        errors.print("  remedy: rakuten db upgrade", markup=False)
        sys.exit(1)
    except psycopg.OperationalError as error:
        errors.print(f"error: PostgreSQL was lost: {error}".strip(), markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
