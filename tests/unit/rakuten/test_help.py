"""What `rakuten --help` says of the commands is true, and every example is a command that exists."""

import shlex

import pytest
import typer
from typer.testing import CliRunner

from rakuten.cli import COMMANDS, SECTIONS, app, load_command


@pytest.fixture(params=COMMANDS)
def name(request):
    return request.param


@pytest.fixture
def command(name):
    return load_command(name)


def first_sentence(text):
    return text.partition(".")[0] + "."


def test_the_list_of_commands_repeats_the_first_sentence_of_each_help(name, command):
    assert first_sentence(command.help) == first_sentence(COMMANDS[name])


def test_every_example_names_a_command_and_options_that_exist(name, command):
    examples = [line.strip() for line in command.epilog.splitlines()[2:]]
    assert examples
    for example in examples:
        words = shlex.split(example.replace('psql "$(', "").replace(')"', ""))
        assert words[:2] == ["rakuten", name]
        called, arguments = command, words[2:]
        if isinstance(command, typer.core.TyperGroup):
            called, arguments = command.commands[words[2]], words[3:]
        context = typer.Context(called, info_name=called.name)
        called.make_parser(context).parse_args(arguments)


def test_the_help_shows_every_command_in_its_section():
    said = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    assert [line[:-1] for line in said.splitlines() if line[:-1] in SECTIONS] == list(SECTIONS)
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert max(map(len, said.splitlines())) <= 80
    assert "Exit codes:" in said


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version  # noqa: PLC0415

    assert CliRunner().invoke(app, ["--version"]).output == f"rakuten {version('rakuten-pipeline')}\n"
