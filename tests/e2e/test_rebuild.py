"""`rakuten verify` and `rakuten reproduce` on what `rakuten demo` has made, and on what somebody has changed since."""

import json
import shutil

import psycopg
import pytest
from shell import Shell

from db.source.synthetic import generate


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Two weeks of real datasets and models; the copies of the datasets are gone."""
    directory = tmp_path_factory.mktemp("rebuild")
    generate(directory / "data", 1000)
    running = Shell(directory / "state", directory / "data")
    demo = running("demo", "--data", running.data, "--weeks", "2", "--keep")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    shutil.rmtree(running.state / "training_snapshots")
    yield running
    running("db", "stop")


def verdicts(shell, what):
    done = shell("reproduce", what, "--json")
    return done.returncode, {verdict["step"]: verdict for verdict in json.loads(done.stdout)}


def test_a_model_and_a_run_are_each_built_again(shell):
    """The pages (test_pages.py) build a batch again."""
    [[run_id]] = shell.rows("select dataset_run_id from pipeline_status where batch_name = 'week_2'")
    for what in ("models:/rakuten_classifier/2", run_id):
        code, steps = verdicts(shell, what)
        assert code == 0, steps
        assert list(steps) == ["audit trail", "dataset", "file in MLflow", "metrics", "parameters"]


def test_what_cannot_be_reproduced_is_refused(shell):
    assert shell("reproduce", "week_9").returncode == 2
    assert "remedy:" in shell("reproduce", "week_9").stderr


def test_a_changed_entry_of_the_history_is_named_and_nothing_is_passed_off_as_the_same(shell):
    healthy = shell("verify")
    assert (healthy.returncode, "nothing was changed" in healthy.stdout) == (0, True), healthy
    url = shell("db", "url", "--role", "owner").stdout.strip()
    change = (
        "update products_history set designation = designation || 'x'"
        " where history_id = (select max(history_id) from products_history where load_batch_id = 1 and split = 'train')"
    )
    with psycopg.connect(url) as connection:
        connection.execute("set role rakuten_owner")
        connection.execute(change)
    changed = shell("verify")
    assert changed.returncode == 1
    assert "changed: week_1: seal: products_history was changed" in changed.stdout
    assert "start with week_1" in changed.stdout
    assert "week_2: seal" not in changed.stdout

    code, steps = verdicts(shell, "week_2")
    assert code == 1
    assert not steps["audit trail"]["same"]
    assert not steps["dataset"]["same"]
    assert steps["dataset"]["cause"] == "data: the audit trail was changed"
