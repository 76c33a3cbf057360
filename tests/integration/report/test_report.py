"""`rakuten report` on a real database: what it reads, what it writes, and what it refuses."""

import html
import importlib.util
import json
import re
import shutil
import subprocess

import pytest
from report_history import ATTACK, CORRECTIONS, WEEKS, write_report_history

from db.database import Role
from db.sql import query
from rakuten.commands import report as command
from rakuten.report.page import page_of
from rakuten.report.tables import TABLES, read_facts
from rakuten.storage import STORAGE_QUERY

QUERIES = (*(f"report/{name}" for name in TABLES), STORAGE_QUERY)


@pytest.fixture(scope="module")
def filled(shared_database):
    with shared_database() as database:
        write_report_history(database)
        yield database


@pytest.fixture
def rakuten(filled, rakuten_as):
    return rakuten_as(filled.conninfo(Role.READER), filled.settings)


@pytest.fixture(scope="module")
def facts(filled):
    with filled.connect(Role.READER, "test", autocommit=True) as reader:
        return read_facts(reader, filled.settings, is_embedded=False)


@pytest.fixture(scope="module")
def page(facts):
    return page_of(facts, "/* Vega */")


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_of_the_page_runs_in_psql_by_the_reader(name, filled):
    if (psql := shutil.which("psql")) is None:
        pytest.skip("psql is not installed")
    command = [
        psql,
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        filled.conninfo(Role.READER),
        "-c",
        query(name),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(0 rows)" not in done.stdout


def test_the_page_shows_the_text_of_each_query_that_was_run(page):
    body = page.split('<script type="application/json"')[0]
    shown = {html.unescape(text) for text in re.findall(r"<code id=[^>]*>(.*?)</code>", body, re.DOTALL)}
    assert shown == {query(name) for name in QUERIES}


def test_each_section_has_a_figure_or_table_a_sentence_and_its_query(page):
    sections = page.split("<section ")[1:]
    assert len(sections) == 11
    for section in sections:
        assert "<h2" in section
        assert re.search(r'<p class="says">\s*\w', section)
        assert re.search(r'<p class="help">\s*\w', section)
        assert "<table>" in section or 'id="problems"' in section
        assert '<details class="query">' in section


def test_batches_are_in_the_order_of_the_hash_chain(facts):
    assert facts.batch_names[:5] == ("week_1", "week_2", "correction_1", "week_3", "week_4")
    assert len(facts.batch_names) == WEEKS + CORRECTIONS


def test_the_text_of_a_product_stays_a_text(page):
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert "\u2028" not in page.split('id="figures"')[1].split("</script>")[0]
    assert page.count("</script>") == page.count("<script") == 3
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7 * 7 }}" in page


def test_a_rollback_an_outage_and_a_failure_are_told(page):
    assert "and 1 rollback." in page
    assert "1 failure and 1 postponement by an outage" in page


def test_a_batch_of_an_earlier_version_is_said_to_lack_records(page):
    assert "1 batch: not recorded by version 0.2." in page


def test_json_has_the_data_behind_the_figures(rakuten):
    document = json.loads(rakuten("report", "--json").stdout)
    assert set(TABLES) < set(document)
    assert len(document["batches"]) == WEEKS + CORRECTIONS
    assert document["top_suspects"][0]["title"] == ATTACK
    assert document["storage"]["disk"]["free_bytes"] > 0


def test_json_writes_no_page(rakuten, tmp_path):
    for options in (["--out", "page.html"], ["--open"]):
        refused = rakuten("report", "--json", *options).exception
        assert (refused.message, refused.exit_code) == ("--json writes no page", 2)
    assert rakuten("report", "--json").exit_code == 0
    assert not (tmp_path / "page.html").exists()


def test_without_its_packages_the_command_says_what_to_install(rakuten, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "vl_convert" else find(name)
    )
    missing = rakuten("report").exception
    assert missing.message == "vl_convert is not installed"
    assert missing.remedy == "pip install 'rakuten-pipeline[report]'"


def test_all_tables_show_one_moment_and_nothing_is_written(filled):
    with filled.connect(Role.READER, "test", autocommit=True) as reader:
        statements = []
        original = reader.execute

        def remember(statement, *arguments, **options):
            statements.append(statement)
            return original(statement, *arguments, **options)

        reader.execute = remember
        read_facts(reader, filled.settings, is_embedded=False)
    assert statements[0] == "set transaction isolation level repeatable read, read only"


def test_an_existing_page_is_replaced_as_a_whole(rakuten, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("old")
    assert rakuten("report", "--out", out).exit_code == 0
    assert out.read_text(encoding="utf-8").endswith("</html>\n")
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_folder_and_a_missing_folder_are_refused_and_the_remedies_work(rakuten, tmp_path):
    done = rakuten("report", "--out", tmp_path)
    assert (done.exception.exit_code, done.exception.message) == (2, f"{tmp_path} is a folder")
    name = re.search("--out (.*)", done.exception.remedy)[1]
    assert rakuten("report", "--out", name).exit_code == 0

    out = tmp_path / "no such" / "report.html"
    missing = rakuten("report", "--out", out).exception
    assert missing.message == f"the folder {out.parent} does not exist"
    subprocess.run(missing.remedy.partition(": ")[2], shell=True, check=True)  # noqa: S602
    assert rakuten("report", "--out", out).exit_code == 0


def test_open_shows_the_page_in_the_browser(rakuten, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        command.webbrowser, "open", lambda address: opened.append(address) or len(opened) == 1
    )
    out = tmp_path / "my report.html"
    assert rakuten("report", "--out", out, "--open").exit_code == 0
    assert opened == [out.as_uri()]
    without_browser = rakuten("report", "--out", out, "--open")
    assert (without_browser.exit_code, without_browser.stderr) == (
        0,
        f"no browser was found: open {out} yourself\n",
    )


def test_an_empty_database_gets_a_page_that_says_what_to_do(database, rakuten_as, tmp_path):
    rakuten = rakuten_as(database.conninfo(Role.READER), database.settings)
    done = rakuten("report", "--out", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Nothing is loaded yet" in text
    assert "rakuten load" in text


def test_a_first_week_without_dataset_and_model_is_shown(load_weeks, database, rakuten_as, tmp_path):
    load_weeks(1)
    rakuten = rakuten_as(database.conninfo(Role.READER), database.settings)
    done = rakuten("report", "--out", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No model is trained yet." in text
    assert "No model is in use yet." in text
    assert "Nothing to compare yet: this is the first week." in text
    assert "version 0." not in text
