"""The reference of the documentation names everything that a user can call, set or read."""

import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
from reference import pages
from repository_pages import with_site_links

from rakuten.cli import COMMANDS, load_command
from shared.config import Settings
from shared.events import Channel

DOCS = Path(__file__).parents[2] / "docs"
# A command in a block of code or between backquotes, also inside a container.
_COMMAND = re.compile(
    r"^ *(?:docker compose exec \S+ )?rakuten ([^\n]+)|`(?:docker compose exec \S+ )?rakuten ([^`\n]+)`",
    re.MULTILINE,
)


def commands_of_the_pages():
    for page in sorted(DOCS.rglob("*.md")):
        for found in _COMMAND.finditer(page.read_text(encoding="utf-8")):
            yield pytest.param(found[1] or found[2], id=f"{page.stem}: {found[1] or found[2]}")


@pytest.mark.parametrize("line", sorted(set(commands_of_the_pages()), key=lambda line: line.id))
def test_each_command_in_the_pages_exists_with_its_options(line):
    name, *arguments = shlex.split(line, comments=True)
    command = load_command(name)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments.pop(0)]
    options = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    assert not hasattr(command, "commands"), f"{line}: the subcommand is missing"


def test_the_readme_can_be_read_in_some_minutes():
    assert len((DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_has_the_figures_of_the_fault_suite():
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    [headline] = re.findall(r"\*\*([\d,]+ faulted runs: \d+ lost, \d+ doubled)\.\*\*", page)
    assert f"**{headline}**" in readme
    for figure in re.findall(r"after ([\d.]+) s (?:\(median|in 99)", page):
        assert f"{figure} s" in readme


def test_every_make_target_that_is_named_exists():
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    pages = [DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    for page in (*pages, *DOCS.rglob("*.md")):
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


@pytest.fixture(scope="module")
def reference():
    return pages()


def test_every_command_and_subcommand_is_in_the_reference(reference):
    for name in COMMANDS:
        assert f"### rakuten {name}\n" in reference["commands"]
        for subcommand in getattr(load_command(name), "commands", {}):
            assert f"### rakuten {name} {subcommand}\n" in reference["commands"]


def test_every_setting_has_a_description(reference):
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"| `{name.upper()}` | {field.description}" in reference["settings"]


def test_every_function_and_every_column_of_a_table_is_in_the_reference(reference):
    schema = files("db").joinpath("sql/expected_schema.tsv").read_text(encoding="utf-8").splitlines()
    for kind, name, *_ in (line.split("\t") for line in schema):
        if kind == "function":
            assert f"| `{name}` | " in reference["database"]
        elif kind == "column" and not name.startswith("alembic_version."):  # a table of Alembic's own
            table, column = name.split(".")
            description = reference["database"].split(f"\n### {table}\n")[1].split("\n### ")[0]
            assert f"| `{column}` | `" in description


def test_every_channel_is_in_the_reference(reference):
    assert all(f"## {channel}\n" in reference["channels"] for channel in Channel)


def test_each_row_of_a_table_has_as_many_cells_as_its_head(reference):
    for page in reference.values():
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1, table


def test_links_to_the_folder_docs_lead_to_the_pages_of_the_site():
    assert with_site_links("[speed](docs/performance.md), [rules](SECURITY.md)") == (
        "[speed](performance.md), [rules](SECURITY.md)"
    )
