"""The command line `rakuten`. Each command has a module in `rakuten/commands/`, imported only when the command runs."""

import importlib
import sys
from typing import Any, Final

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from shared.config import configure_third_parties
from shared.errors import PipelineError
from shared.extras import missing_extra
from shared.logs import censor, configure_logs

# The first sentence of each command's help. It is repeated here so that `rakuten --help` imports none of the commands.
COMMANDS: Final = {
    "demo": "Load weeks of data into an embedded PostgreSQL, and watch them become balanced datasets and models.",
    "db": "Upgrade the schema, and start or stop the embedded PostgreSQL.",
    "data": "Generate a synthetic data set, or check a data set.",
    "load": "Load the next week's share of the training rows into PostgreSQL: check, load, validate, complete.",
    "correct": "Apply all corrections of a file, or none of them.",
    "listen": "Run one of the two listeners: snapshot or training.",
    "status": "Show one line per batch: the rows that were loaded, the dataset and the model.",
    "doctor": "List the problems of the pipeline, each with its remedy.",
    "events": "Print each notification that PostgreSQL sends to the listeners, as it arrives.",
    "retry": "Retry each stage (snapshot or training) that has given up a batch after too many failures.",
    "diff": "Count the products that were added, changed and removed between two batches, by class.",
    "taint": "List every dataset that contained a product, every model trained on it, and every change of the product.",
    "lineage": "Show where a batch, dataset, model, product or file comes from, and what was built from it.",
    "verify": "Recompute the hash chain of the batches, and compare every run, file and model with its recorded digests.",
    "orphans": "List the runs in MLflow whose batch PostgreSQL does not have.",
    "reproduce": "Rebuild a dataset and its model from the audit trail, and compare them with the recorded ones.",
    "prove": "Prove how many copies of a product a dataset holds, or verify such a proof.",
    "champion": "Show which model is the champion, and each change of champion: when, by whom, why.",
    "rollback": "Move the alias `champion` back to an earlier model.",
}


class _LazyCommand(TyperCommand):
    """A command whose module is not imported yet. Until the user calls it, only its name and help text are known."""

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
    """Import the module of a command, and return the command.

    The module has either an `app` with several subcommands, or one function that is named after the command.
    """
    configure_third_parties()
    module = importlib.import_module(f"rakuten.commands.{name}")
    if hasattr(module, "app"):
        return typer.main.get_command(module.app)
    single = typer.Typer(add_completion=False)
    single.command(name)(getattr(module, name))
    return typer.main.get_command(single)


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def rakuten() -> None:
    """Run an event-driven MLOps pipeline on PostgreSQL: a weekly load, an audit trail, balanced datasets, models."""


def main() -> None:
    """Run a command. The exit code is 2 for bad input and 1 for a failure. Only a defect in our code prints a traceback."""
    configure_logs("console", "WARNING")  # logs go to standard error; `rakuten listen` changes this
    try:
        app()
    except PipelineError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (message := _message_for(error)) is None:
            raise
        _print_error(message)
        sys.exit(1)


def _message_for(error: Exception) -> str | None:
    """Return a message with a remedy for a package that is not installed, or an error of PostgreSQL or MLflow, or else None.

    Any other error is a defect in our code. To recognise an error of MLflow, this function would import MLflow, which takes
    seconds. If nothing has imported MLflow yet, the error cannot come from MLflow, so the function skips this check.
    """
    if (missing := missing_extra(error)) is not None:
        return str(missing)
    import psycopg  # noqa: PLC0415

    from db.sqlstates import Kind, meaning_of  # noqa: PLC0415

    if isinstance(error, psycopg.Error) and (meaning := meaning_of(error)).kind is not Kind.DEFECT:
        return f"PostgreSQL: {censor(str(error)).strip()}\n  remedy: {meaning.remedy}"
    if "mlflow" not in sys.modules:
        return None
    from listeners.outages import outage_of  # noqa: PLC0415  this module imports MLflow

    if (outage := outage_of(error)) is None:
        return None
    return f"{outage.message}\n  remedy: repeat the command later; MLFLOW_TRACKING_URI is MLflow's address"


def _print_error(message: str) -> None:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print("error:", style="bold red", end=" ")
    errors.print(message, markup=False)
