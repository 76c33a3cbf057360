"""The commands as a person or a program calls them: what they print, and how they exit."""

import json
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest
from shell import RAKUTEN, Shell
from sqlalchemy import make_url
from waiting import eventually

from db.source.synthetic import generate
from rakuten.local_system import where_to_look
from shared.config import read_settings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("source") / "data"
    generate(directory, 300)
    return directory


@pytest.fixture(scope="module")
def shell(tmp_path_factory, data):
    running = Shell(tmp_path_factory.mktemp("cli") / "it's my state? 50%41", data)
    started = running("db", "start")
    assert started.returncode == 0, started.stderr
    yield running
    assert running("db", "stop").stdout == "stopped\n"


@pytest.fixture
def broken(tmp_path, data):
    """A copy of the data, with one file changed: `broken("X_train.csv", lambda text: ...)`."""

    def change(name, edit):
        directory = tmp_path / "broken"
        shutil.copytree(data, directory)
        path = directory / name
        if edit is None:
            path.unlink()
        else:
            path.write_bytes(edit(path.read_bytes()))
        return directory

    return change


BAD_INPUTS = {
    "missing file": ("Y_train.csv", None, ["Y_train.csv: file is missing"]),
    "empty file": ("X_test.csv", lambda _: b"", ["X_test.csv: file is empty"]),
    "missing column": (
        "X_train.csv",
        lambda b: b.replace(b"imageid", b"image", 1),
        ["X_train.csv:1", "imageid"],
    ),
    "bad number": (
        "Y_train.csv",
        lambda b: b.replace(b"\n0,", b"\n0,x", 1),
        ["Y_train.csv:2", "whole number", "'x"],
    ),
    "label without a row": (
        "Y_train.csv",
        lambda b: b + b"9999,10\n",
        ["Y_train.csv:302", "label without a row", "'9999'"],
    ),
    "wrong encoding": ("X_train.csv", lambda b: b + b"9999,\xe9t\xe9,,1,1\n", ["0xe9", "not UTF-8", "iconv"]),
    "truncated file": ("X_train.csv", lambda b: b[:-5], ["no line end", "truncated"]),
}


@pytest.mark.parametrize(("name", "edit", "messages"), BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_input_is_refused_by_check_and_load_alike_and_nothing_is_written(
    shell, broken, name, edit, messages
):
    directory = broken(name, edit)
    before = shell.rows(
        "select count(*), (select count(*) from products_history), (select count(*) from data_loads) from products"
    )
    for command in (("data", "check"), ("load",)):
        result = shell(*command, data=directory)
        assert result.returncode == 2, result
        said = result.stdout + result.stderr
        assert "remedy:" in said
        assert "Traceback" not in said
        assert [message for message in messages if message not in said] == [], said
    assert (
        shell.rows(
            "select count(*), (select count(*) from products_history), (select count(*) from data_loads) from products"
        )
        == before
    )


def test_check_lists_problems_as_json(shell, broken):
    directory = broken("Y_train.csv", lambda b: b + b"9999,10\n")
    [problem] = json.loads(shell("data", "check", "--json", data=directory).stdout)
    assert (problem["file"], problem["line"], problem["value"]) == ("Y_train.csv", 302, "9999")


def test_weeks_are_loaded_in_order_and_once(shell):
    assert shell("load", "--week", "2").returncode == 0
    assert shell("load", "--week", "2").stdout == "nothing to load: week 2 is complete\n"
    third = json.loads(shell("load", "--json").stdout)
    assert (third["batch_name"], third["total_rows"], third["new_rows"]) == ("week_3", 138, 9)
    assert shell.rows("select batch_name, total_rows from data_loads order by id") == [
        ("week_1", 120),
        ("week_2", 129),
        ("week_3", 138),
    ]
    status = json.loads(shell("status", "--json").stdout)
    assert [row["snapshot_state"] for row in status] == ["waiting"] * 3
    assert "46 %" in shell("status").stdout


def test_a_changed_source_file_stops_every_later_load(shell, broken):
    shell("load", "--week", "1")
    result = shell("load", data=broken("X_train.csv", lambda b: b.replace(b" ", b"  ", 1)))
    assert result.returncode == 2
    assert "X_train.csv has changed since the first load" in result.stderr


def test_a_week_that_does_not_exist_is_refused(shell):
    result = shell("load", "--week", "22")
    assert (result.returncode, "there are only 21 weeks" in result.stderr) == (2, True)


def test_a_malformed_setting_is_named(shell):
    shell.environment["PING_INTERVAL_S"] = "soon"
    try:
        result = shell("status")
    finally:
        del shell.environment["PING_INTERVAL_S"]
    assert (result.returncode, "PING_INTERVAL_S" in result.stderr) == (2, True)


def test_an_unreachable_server_is_a_clear_error(shell):
    shell.environment |= {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "1", "POSTGRES_USER": "nobody"}
    try:
        result = shell("status")
    finally:
        for name in ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER"):
            del shell.environment[name]
    assert result.returncode == 1
    assert "PostgreSQL does not answer at nobody@127.0.0.1:1/rakuten_db" in result.stderr
    assert "Traceback" not in result.stderr
    assert "or unset POSTGRES_HOST to use the embedded PostgreSQL" in result.stderr
    assert shell("status").returncode == 0


def test_the_embedded_server_is_used_after_postgres_host_was_unset(shell):
    shell.environment |= {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_USER": "nobody"}
    try:
        result = shell("db", "start")
    finally:
        for name in ("POSTGRES_HOST", "POSTGRES_USER"):
            del shell.environment[name]
    assert "remedy: unset POSTGRES_HOST to use the embedded PostgreSQL" in result.stderr
    assert shell("db", "start").returncode == 0


@pytest.mark.parametrize("command", ["status", "doctor", "lineage", "verify", "champion"])
def test_a_command_that_reads_creates_no_state_and_says_where_it_looked(tmp_path, data, command):
    elsewhere = Shell(tmp_path / "elsewhere", data)
    result = elsewhere(command, *(["week_1"] if command == "lineage" else []))
    assert result.returncode == 1
    assert f"there is no database in {tmp_path / 'elsewhere'} (setting STATE_PATH)" in result.stderr
    assert "or begin: rakuten demo" in result.stderr
    assert not elsewhere.state.exists()


def test_doctor_says_that_nothing_runs_on_a_laptop_and_finds_no_fault_with_it(shell):
    shell("load", "--week", "1")
    result = shell("doctor")
    assert "no listener" not in result.stdout
    assert "nothing runs on this machine now; the pipeline goes on with: rakuten up" in result.stdout


def test_nothing_to_retry_says_so(shell):
    assert shell("retry").stdout == "no stage has given up a batch\n"
    assert shell("retry", "--batch", "week_1").returncode == 2


@pytest.fixture
def heard(shell, tmp_path):
    """What `rakuten events` prints of a real notification and of garbage."""

    def hear(*options):
        with (tmp_path / "events").open("w+") as output:
            command = [RAKUTEN, "events", *options]
            process = subprocess.Popen(command, env=shell.environment, stdout=output, stderr=output)
            try:
                listening = "select 1 from pg_stat_activity where application_name = 'rakuten events'"
                eventually(lambda: shell.rows(listening))
                url = shell("db", "url").stdout.strip()
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute("select pg_notify('batch_completed', '{\"v\": 1, \"batch_id\": 7}')")
                    connection.execute("notify dataset_ready, 'garbage'")
                eventually(lambda: "garbage" in (tmp_path / "events").read_text())
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(30)
        said = (tmp_path / "events").read_text()
        assert "Traceback" not in said
        return said

    return hear


def test_events_shows_every_notification_decoded(heard):
    said = heard()
    assert "batch_completed   batch_id=7" in said
    assert "not from the pipeline" in said


def test_events_are_lines_of_json_for_programs(heard):
    known, garbage = [json.loads(line) for line in heard("--json").splitlines() if line.startswith("{")]
    assert (known["channel"], known["event"]) == ("batch_completed", {"v": 1, "batch_id": 7})
    assert (garbage["channel"], garbage["payload"]) == ("dataset_ready", "garbage")
    assert garbage["error"]


def test_generate_refuses_a_folder_that_holds_a_data_set(shell, data):
    result = shell("data", "generate", "--rows", "100", "--out", data)
    assert (result.returncode, "remedy:" in result.stderr) == (2, True)


# ---- printed commands, in a state folder whose path has to be quoted


def run_as_printed(shell, command):
    """Run what a command has printed in a shell that has no STATE_PATH, as a user who copies it does."""
    environment = {name: value for name, value in shell.environment.items() if name != "STATE_PATH"}
    return subprocess.run(
        ["sh", "-c", command],  # noqa: S607
        env=environment,
        cwd=shell.state.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_commands_that_a_start_prints_work_as_printed(shell):
    printed = shell("db", "start").stdout.splitlines()[-1]
    connect = printed.partition("connect with: psql ")[2].partition("    stop with: ")[0]
    assert run_as_printed(shell, f"echo {connect}") == shell("db", "url").stdout
    assert printed.partition("    stop with: ")[2].endswith("rakuten db stop")


def test_the_commands_that_a_demo_prints_work_as_printed(shell, monkeypatch):
    settings = read_settings(state_path=shell.state, mlflow_tracking_uri=None, _env_file=None)
    monkeypatch.chdir(shell.state.parent)
    printed = {
        line.split()[0]: line.split(maxsplit=1)[1] for line in where_to_look(settings, is_running=True)
    }
    url = printed["psql"].partition(" ")[2]
    assert run_as_printed(shell, f"echo {url}") == shell("db", "url").stdout
    assert run_as_printed(shell, printed["status"]) == shell("status").stdout
    program, *_, uri = shlex.split(printed["MLflow"])
    assert Path(shell.state.parent, program).exists()
    assert make_url(uri).database == str(shell.state / "mlflow" / "mlflow.db")


def test_missing_images_are_counted_by_a_check(shell, broken):
    directory = broken("X_train.csv", lambda text: text)
    (directory / "images" / "image_test").mkdir(parents=True)
    said = shell("data", "check", data=directory).stdout
    assert "image_test: of 49 images 49 (the first is image_" in said


def test_the_challenges_own_names_are_loaded(shell, broken):
    shell("load", "--week", "1")
    directory = broken("X_train.csv", lambda text: text)
    for name, official in (
        ("X_train", "X_train_update"),
        ("Y_train", "Y_train_CVw08PX"),
        ("X_test", "X_test_update"),
    ):
        (directory / f"{name}.csv").rename(directory / f"{official}.csv")
    assert shell("data", "check", data=directory).returncode == 0
    assert shell("load", "--week", "1", data=directory).stdout == "nothing to load: week 1 is complete\n"
