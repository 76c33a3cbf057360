"""Generate the pages of the reference from the code, so that no page can differ from what the code does."""

import logging
import re
from collections.abc import Iterable
from importlib.resources import files as resources
from typing import Any, Final

from mkdocs.structure.files import File
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from rakuten.cli import SECTIONS, load_command
from shared import mlflow_names
from shared.config import Settings
from shared.events import EVENT_OF, Channel

_DATABASE_KINDS: Final = {"table": "Tables", "view": "Views", "function": "Functions"}
_OPTIONS_OF_TYPER: Final = ("help", "install_completion", "show_completion")
_COMMENT: Final = re.compile(
    r"^comment on (table|view|column|function) (\S+)\s+is\s+'((?:[^']|'')*)';", re.MULTILINE
)
_ROLE: Final = re.compile(r"\('(rakuten_\w+)', '((?:[^']|'')*)'\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the reference to the site."""
    # To load a command configures the logs, which removes the handler with which mkdocs counts warnings for --strict.
    loggers = [logging.getLogger(), logging.getLogger("mkdocs")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    generated = pages()
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
    for name, text in generated.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """Return the Markdown text of each page of the reference, by the page's name."""
    return {
        "commands": _commands(),
        "settings": _settings(),
        "database": _database(),
        "channels": _channels(),
        "mlflow": _mlflow(),
    }


def _commands() -> str:
    parts = [
        "# Commands",
        "Each heading is a command. `rakuten COMMAND --help` prints the same.",
        "Exit codes: 0 all is well; 1 something failed, or a check found a problem; 2 the input was rejected; 130 Ctrl-C.",
    ]
    for section, names in SECTIONS.items():
        parts.append(f"## {section}")
        for name in names:
            parts += _command(f"rakuten {name}", load_command(name))
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> list[str]:
    """Return the paragraphs about a command, and about its subcommands."""
    parts = [f"### {name}", command.help.replace("\b", "").strip()]
    rows = [_parameter(parameter) for parameter in command.params if parameter.name not in _OPTIONS_OF_TYPER]
    if rows:
        parts.append(_table(("argument or option", "meaning", "default"), rows))
    for subcommand in getattr(command, "commands", {}).values():
        parts += _command(f"{name} {subcommand.name}", subcommand)
    if command.epilog:
        examples = [line.strip() for line in command.epilog.splitlines()[2:]]
        parts.append("```sh\n" + "\n".join(examples) + "\n```")
    return parts


def _parameter(parameter: Any) -> tuple[str, str, str]:
    is_option = parameter.param_type_name == "option"
    names = (
        [*parameter.opts, *parameter.secondary_opts]
        if is_option
        else [parameter.metavar or parameter.name.upper()]
    )
    default = (
        ""
        if parameter.default is None or parameter.default is False or parameter.required
        else f"`{parameter.default}`"
    )
    return ", ".join(f"`{name}`" for name in names), parameter.help or "", default


def _settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default in {None, "", PydanticUndefined} else f"`{field.default}`"
        secret = (
            "; secret, so no log or message shows it"
            if SecretStr in getattr(field.annotation, "__args__", ())
            else ""
        )
        rows.append((f"`{name.upper()}`", (field.description or "") + secret, default))
    return (
        "\n\n".join(
            [
                "# Settings",
                "The settings are read from the environment and from the file `.env` in the current folder. The environment wins.",
                _table(("variable", "meaning", "default"), rows),
            ]
        )
        + "\n"
    )


def _database() -> str:
    """Describe the database with the comments that PostgreSQL has, too."""
    scripts = sorted(
        (script for script in resources("db").joinpath("sql/schema").iterdir() if "describe" in script.name),
        key=lambda script: script.name,
    )
    text = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    comments = {(kind, name): comment.replace("''", "'") for kind, name, comment in _COMMENT.findall(text)}
    schema = [
        line.split("\t")
        for line in resources("db")
        .joinpath("sql/expected_schema.tsv")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    signatures = {name.split("(")[0]: name for kind, name, *_ in schema if kind == "function"}
    types = {name: definition[0] for kind, name, *definition in schema if kind == "column"}
    parts = ["# Database", "psql shows the same descriptions with `\\d+` and `\\df+`."]
    for kind in ("table", "view"):
        parts.append(f"## {_DATABASE_KINDS[kind]}")
        for name in (name for found, name in comments if found == kind):
            columns = [
                (column.split(".")[1], comment)
                for (found, column), comment in comments.items()
                if found == "column" and column.startswith(f"{name}.")
            ]
            rows = [
                (
                    f"`{column}`",
                    f"`{types[f'{name}.{column}']}`" if f"{name}.{column}" in types else "",
                    comment,
                )
                for column, comment in columns
            ]
            parts += [f"### {name}", comments[kind, name], _table(("column", "type", "meaning"), rows)]
    functions = [
        (f"`{signatures[name]}`", comment) for (kind, name), comment in comments.items() if kind == "function"
    ]
    for_people = [row for row in functions if row[1].startswith("For people")]
    parts += ["## Functions", "### For people", _table(("function", "meaning"), for_people)]
    parts += [
        "### For the commands, listeners and triggers",
        _table(("function", "meaning"), [row for row in functions if row not in for_people]),
    ]
    parts += [
        "## Roles",
        _table(("role", "meaning"), [(f"`{name}`", comment) for name, comment in _ROLE.findall(text)]),
    ]
    return "\n\n".join(parts) + "\n"


def _channels() -> str:
    parts = [
        "# Channels",
        (
            "PostgreSQL sends a notification on these channels. `rakuten events` prints each one as it arrives. A payload is a JSON"
            " object with the field `v`, the version of its format, and the fields below. A payload is only a hint: a listener reads"
            " the tables to learn what to do."
        ),
    ]
    for channel in Channel:
        event = EVENT_OF[channel]
        fields = ", ".join(f"`{name}`" for name in event.model_fields if name != "v")
        parts += [f"## {channel}", str(event.__doc__), f"Fields: {fields}."]
    return "\n\n".join(parts) + "\n"


def _mlflow() -> str:
    names = mlflow_names
    rows = [
        ("experiment of the datasets", names.DATASET_EXPERIMENT),
        ("experiment of the models", names.MODEL_EXPERIMENT),
        ("registered model", names.REGISTERED_MODEL),
        ("alias of the model in use", names.CHAMPION),
        ("dataset and run of week 7", names.dataset_name("week_7")),
        ("dataset file of week 7", names.parquet_name(names.dataset_name("week_7"))),
        ("model run of week 7", names.model_run_name("week_7")),
        ("holdout set", names.HOLDOUT_SET),
        ("test set", names.TEST_SET),
    ]
    return (
        "\n\n".join(
            [
                "# Names in MLflow",
                "`MLFLOW_NAME_PREFIX` begins the names of the experiments and the registered model, if it is set.",
                _table(("what", "name"), [(what, f"`{name}`") for what, name in rows]),
                "## Artifacts",
                _list(f"`{value}`" for value in _constants(names.Artifact)),
                (
                    f"A training run also has `{names.promotion_name(1)}`, the comparison with the champion; the second attempt writes"
                    f" `{names.promotion_name(2)}`."
                ),
                "## Tags",
                _list(f"`{value}`" for value in _constants(names.Tag)),
            ]
        )
        + "\n"
    )


def _constants(group: type) -> list[str]:
    return [value for name, value in vars(group).items() if name.isupper()]


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table. A vertical bar or a line break in a cell would end the cell, so both are replaced."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
