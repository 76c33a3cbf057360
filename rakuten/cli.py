"""The command line `rakuten`. Each command has a module in `rakuten/commands/`, imported only when the command runs.

This module imports little, so that `rakuten --help` answers at once.
"""

import importlib
import sys
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

# The commands by what they are for, each with the first sentence of its help. The sentence is repeated here so that
# `rakuten --help` imports none of the commands.
SECTIONS: Final = {
    "Run": {
        "up": "Run the whole pipeline on this machine until Ctrl-C: PostgreSQL, both listeners, the model server, and MLflow's pages.",
        "demo": "Load weeks of products into an embedded PostgreSQL, and watch how each week gets a balanced dataset and a model.",
        "load": "Load the training rows of the next week into PostgreSQL, or of every missing week up to `--week`.",
        "listen": "Run one of the two listeners: snapshot or training.",
        "serve": "Serve predictions over HTTP, by the champion, until it is stopped.",
        "predict": "Predict the class of every product in a CSV file, by the champion.",
    },
    "Look": {
        "status": "Show one line per batch: the rows that were loaded, the dataset and the model.",
        "report": "Write one page about the pipeline: rows, classes, models, drift, latencies, storage and problems.",
        "doctor": "List the problems of the pipeline, each with its remedy.",
        "events": "Print each notification that PostgreSQL sends to the listeners, as it arrives.",
        "suspects": "List training products whose label is probably wrong, the most suspicious first.",
        "champion": "Show which model is the champion, and each change of champion: when, by whom, why.",
    },
    "Trace": {
        "lineage": "Show where a batch, dataset, model, product or file comes from, and what was built from it.",
        "taint": "List every dataset that contained a product, every model trained on it, and every change of the product.",
        "diff": "Count, for each product class, the products that were added, changed and removed between two batches.",
        "verify": "Recompute the hash chain of the batches, and compare each MLflow run, file and model with its recorded digest.",
        "reproduce": "Rebuild the dataset of a batch, and the model trained on it, and compare them with the originals in MLflow.",
        "prove": "Prove how many copies of a product a dataset holds, or verify such a proof.",
        "orphans": "List the runs in MLflow whose batch PostgreSQL does not have.",
    },
    "Change": {
        "correct": "Apply all corrections in a file.",
        "retry": "Retry each stage (snapshot or training) that has given up a batch after too many failures.",
        "rollback": "Move the alias `champion` back to an earlier model.",
    },
    "Set up": {
        "db": "Upgrade the schema, and start or stop the embedded PostgreSQL.",
        "data": "Generate a synthetic data set, or check a data set.",
    },
}
COMMANDS: Final = {name: text for section in SECTIONS.values() for name, text in section.items()}
_EXIT_CODES: Final = "Exit codes: 0 all is well; 1 something failed, or a check found a problem; 2 the input was rejected; 130 Ctrl-C."


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

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))


def load_command(name: str) -> Any:
    """Import the module of a command, and return the command.

    The module has either an `app` with several subcommands, or one function that is named after the command. Its EXAMPLES are
    shown at the end of the command's help.
    """
    from shared.config import configure_third_parties  # noqa: PLC0415
    from shared.logs import configure_logs  # noqa: PLC0415

    configure_logs("console", "WARNING")  # logs go to standard error; `rakuten listen` changes this
    configure_third_parties()
    module = importlib.import_module(f"rakuten.commands.{name}")
    if hasattr(module, "app"):
        command = typer.main.get_command(module.app)
    else:
        single = typer.Typer(add_completion=False)
        single.command(name)(getattr(module, name))
        command = typer.main.get_command(single)
    # "\b" keeps the help from being wrapped into one paragraph
    command.epilog = "\n".join(["\b", "Examples:", *(f"  {example}" for example in module.EXAMPLES)])
    return command


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=_EXIT_CODES,
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"rakuten {version('rakuten-pipeline')}")
        raise typer.Exit


@app.callback()
def rakuten(
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="print the version, and exit"
    ),
) -> None:
    """Run an event-driven MLOps pipeline on PostgreSQL: a weekly load, an audit trail, balanced datasets, models."""


def main() -> None:
    """Run a command. The exit code is 2 for bad input and 1 for a failure. Only a defect in our code prints a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from shared.errors import PipelineError  # noqa: PLC0415

        if isinstance(error, PipelineError):
            _print_error(str(error))
            sys.exit(error.exit_code)
        if (message := _message_for(error)) is None:
            raise
        _print_error(message)
        sys.exit(1)


def _message_for(error: Exception) -> str | None:
    """Return a message with a remedy for a package that is not installed, or an error of PostgreSQL or MLflow, or else None.

    Any other error is a defect in our code. To recognise an error of MLflow, this function would import MLflow, which takes
    seconds. If nothing has imported MLflow yet, the error cannot come from MLflow, so the function skips this check.
    """
    from shared.extras import missing_extra  # noqa: PLC0415

    if (missing := missing_extra(error)) is not None:
        return str(missing)
    import psycopg  # noqa: PLC0415

    from db.sqlstates import Kind, meaning_of  # noqa: PLC0415
    from shared.logs import censor  # noqa: PLC0415

    if isinstance(error, psycopg.Error) and (meaning := meaning_of(error)).kind is not Kind.DEFECT:
        return f"PostgreSQL: {censor(str(error)).strip()}\n  remedy: {meaning.remedy}"
    if "mlflow" not in sys.modules:
        return None
    from listeners.outages import outage_of  # noqa: PLC0415  this module imports MLflow

    if (outage := outage_of(error)) is None:
        return None
    return f"{outage.message}\n  remedy: repeat the command later; MLFLOW_TRACKING_URI is MLflow's address"


def _print_error(message: str) -> None:
    from rich.console import Console  # noqa: PLC0415

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print("error:", style="bold red", end=" ")
    errors.print(message, markup=False)
