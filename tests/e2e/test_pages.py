"""The tutorial, word by word: each of its commands works as it is written, and shows what the text says."""

import pytest
from tutorial import PAGE, Block, run_tutorial, with_outputs


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return run_tutorial(tmp_path_factory.mktemp("tutorial"))


@pytest.mark.timeout(1800)
def test_each_command_of_the_tutorial_works(blocks):
    assert {block.commands: block.output for block in blocks if block.exit_code} == {}


@pytest.mark.timeout(1800)
def test_the_correction_changes_one_label_and_gets_a_model_of_its_own(blocks):
    outputs = {block.commands.split()[1]: block.output for block in blocks}
    assert outputs["status"].count("moved") >= 1
    assert "prdtypecode 1560 -> 2060" in outputs["diff"]
    assert "correction_1" in outputs["taint"]
    assert "model_correction_1" in outputs["lineage"]


def test_the_page_shows_the_output_of_each_command_that_prints_something():
    page = PAGE.read_text(encoding="utf-8")
    commands = [block.partition("```")[0] for block in page.split("```sh\n")[1:]]
    assert len(commands) == page.count("```text\n")


def test_a_new_output_replaces_the_one_before():
    page = "```sh\ntrue\n```\n\n```text\nold\n```\n\nText.\n"
    assert with_outputs(page, [Block("true\n", "\nnew  \n", 0)]) == page.replace("old", "new")
    assert with_outputs(page, [Block("true\n", "", 0)]) == "```sh\ntrue\n```\n\nText.\n"
