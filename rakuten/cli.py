"""`rakuten`: the command line. Each command is a module of `rakuten/commands/`, imported when the command is called."""

import importlib
import sys
from typing import Any, Final

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from shared.config import configure_third_parties
from shared.errors import PipelineError
from shared.logs import censor, configure_logs

# The first sentence of each command's help, stated here so that `rakuten --help` imports none of them.
COMMANDS: Final = {
    "demo": "Watch weeks of data arrive, become balanced datasets and become models, on an embedded PostgreSQL.",
    "db": "The schema, and the embedded PostgreSQL.",
    "data": "Make a synthetic data set, or check one.",
    "load": "Raise PostgreSQL to the next percentage of the training rows: check, load, validate, complete.",
    "correct": "Apply a file of corrections, all of it or nothing.",
    "listen": "Run one of the long-running listeners.",
    "status": "Show one line a week: what was loaded, and what each stage made of it.",
    "doctor": "Name what is wrong, each with its remedy.",
    "events": "Follow all channels: print every notification as it arrives, decoded.",
    "retry": "Retry the stages that gave up on a batch.",
    "diff": "Count what was added, changed and removed between two batches, by class.",
    "taint": "List every dataset and model that ever contained a product, and what happened to it.",
    "lineage": "Show where something comes from and what became of it: files, batches, dataset, model, versions.",
    "verify": "Recompute the seals, and compare every run, file and model with its recorded digests.",
    "reproduce": "Rebuild a dataset and its model from the audit trail, in a scratch directory.",
    "prove": "Prove that a dataset holds a product, in how many copies, or verify such a proof.",
    "champion": "Show which model is champion, and every move of the alias: when, by whom, why.",
    "rollback": "Move the alias `champion` back to an earlier model.",
}


class _LazyCommand(TyperCommand):
    """A command that is known by its name and help, and imported when it is called."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return load_command(str(self.name)).make_context(info_name, args, parent=parent, **extra)


class _LazyGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  typer's interface
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        return _LazyCommand(cmd_name, help=COMMANDS[cmd_name], rich_markup_mode=None)


def load_command(name: str) -> Any:
    """Import a command's module. It has an `app` of several commands, or one function of the command's name."""
    configure_third_parties()
    try:
        module = importlib.import_module(f"rakuten.commands.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith(("rakuten", "listeners", "db", "shared")):
            raise
        raise PipelineError(f"{error.name} is not installed here", remedy="install the extra 'ml'") from error
    if hasattr(module, "app"):
        return typer.main.get_command(module.app)
    single = typer.Typer(add_completion=False)
    single.command(name)(getattr(module, name))
    return typer.main.get_command(single)


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def rakuten() -> None:
    """Event-driven MLOps on PostgreSQL: a weekly load, an audit trail, balanced datasets, models."""


def main() -> None:
    """Run a command. The exit code is 2 for bad input and 1 for a failure; an expected failure prints no traceback."""
    configure_logs("console", "WARNING")  # to standard error; `rakuten listen` configures its own
    try:
        app()
    except PipelineError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (message := _expected(error)) is None:
            raise
        _print_error(message)
        sys.exit(1)


def _expected(error: Exception) -> str | None:
    """Explain an error of PostgreSQL or MLflow that a person can act on; None for a defect of ours.

    A command that has not imported them cannot have met their errors, and need not wait for the import.
    """
    import psycopg  # noqa: PLC0415

    message = censor(str(error)).strip()
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedFunction():
            return f"the database has no schema, or an older one: {message}\n  remedy: rakuten db upgrade"
        case psycopg.errors.InsufficientPrivilege():
            return f"{message}\n  remedy: log in as a member of the role whose step this is (POSTGRES_USER)"
        case psycopg.OperationalError():
            return f"the connection to PostgreSQL was lost: {message}\n  remedy: repeat the command"
    if "mlflow" not in sys.modules:
        return None
    from listeners.outages import outage_of  # noqa: PLC0415  it imports MLflow

    if (outage := outage_of(error)) is None:
        return None
    return f"{outage.message}\n  remedy: repeat the command when it is available; MLFLOW_TRACKING_URI says where MLflow is"


def _print_error(message: str) -> None:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print("error:", style="bold red", end=" ")
    errors.print(message, markup=False)


if __name__ == "__main__":
    main()
