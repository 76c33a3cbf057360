"""The tutorial and the pages after it, word by word: each command works as it is written, and shows what the text says."""

import pytest
from run_pages import PAGES, README, run_pages, shown_blocks, with_outputs


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return run_pages(tmp_path_factory.mktemp("pages"))


@pytest.mark.timeout(1800)
def test_each_command_works(blocks):
    assert {block.commands: block.output for block in blocks if block.exit_code} == {}


@pytest.mark.timeout(1800)
def test_the_correction_changes_one_label_and_gets_a_model_of_its_own(blocks):
    outputs = {
        block.commands.split()[1]: block.output for block in reversed(blocks)
    }  # the first of each command
    assert outputs["status"].count("moved") >= 1
    assert "prdtypecode 1560 -> 2060" in "".join(block.output for block in blocks)
    assert "correction_1" in outputs["taint"]
    assert "model_correction_1" in outputs["lineage"]


@pytest.mark.timeout(1800)
def test_every_dataset_and_model_is_built_again(blocks):
    outputs = [block.output for block in blocks if "rakuten reproduce" in block.commands]
    assert [output.count("same ") for output in outputs] == [5, 5]
    assert all("nothing was changed" in output and "different" not in output for output in outputs)


@pytest.mark.timeout(1800)
def test_the_pages_show_an_output_of_each_command_that_prints_something(blocks):
    shown = [block for page in PAGES for block in shown_blocks(page.read_text(encoding="utf-8"))]
    assert [bool(block.output) for block in shown] == [bool(block.output.strip()) for block in blocks]


def test_the_readme_shows_outputs_of_the_pages():
    shown = {block for page in PAGES for block in shown_blocks(page.read_text(encoding="utf-8"))}
    blocks = shown_blocks(README.read_text(encoding="utf-8"))
    assert blocks
    assert set(blocks) <= shown


def test_a_new_output_replaces_the_one_before():
    page = "```sh\ntrue\n```\n\n```text\nold\n```\n\nText.\n"
    assert with_outputs(page, {"true\n": "\nnew  \n"}) == page.replace("old", "new")
    assert with_outputs(page, {"true\n": ""}) == "```sh\ntrue\n```\n\nText.\n"
