"""One line an event, JSON in a container and readable on a terminal, with no password in either."""

import json
import sys

import pytest
import structlog

from shared.logs import censor, configure_logs

SECRET = "hunter2"  # noqa: S105


@pytest.fixture(params=["json", "console"])
def log_format(request):
    return request.param


def logged(capsys, log_format: str, *args: object, **fields: object) -> str:
    configure_logs(log_format, "INFO")
    structlog.get_logger().info(*args, **fields)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "censored"),
    [
        ("postgresql://loader:hunter2@db:5432/x", "postgresql://loader:***@db:5432/x"),
        ("postgresql+psycopg2://l:hunter2@db/x", "postgresql+psycopg2://l:***@db/x"),
        ("redis://:hunter2@cache", "redis://:***@cache"),
        (
            "at postgresql://l:hunter2@db/x and http://u:hunter2@h",
            "at postgresql://l:***@db/x and http://u:***@h",
        ),
        ("postgresql://l:hun@ter2@db/x", "postgresql://l:***@db/x"),
        ("postgresql://l:hun/ter2@db/x", "postgresql://l:***@db/x"),
        ("host=db password=hunter2 user=l", "host=db password=*** user=l"),
        ("host=db password='hun ter2' user=l", "host=db password=*** user=l"),
        (r"host=db password='hun\' ter2' user=l", "host=db password=*** user=l"),
        ("host=db password = hunter2 user=l", "host=db password = *** user=l"),
        ("PASSWORD=hunter2", "PASSWORD=***"),
        ("POSTGRES_PASSWORD=hunter2 PGPASSWORD=hunter2", "POSTGRES_PASSWORD=*** PGPASSWORD=***"),
    ],
)
def test_passwords_are_censored(text, censored):
    assert censor(text) == censored


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://localhost:5000/#/experiments",
        "postgresql://loader@db:5432/x",
        "mail to someone@example.org",
        "host=db user=l",
        "the password is wrong",
    ],
)
def test_text_without_a_password_is_left_alone(text):
    assert censor(text) == text


def test_json_logs_are_one_object_a_line(capsys):
    configure_logs("json", "INFO")
    log = structlog.get_logger()
    log.info("batch_loaded", batch_id=7, text="two\nlines", path=tuple)
    log.warning("late")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["batch_id"], first["text"], first["level"]) == (
        "batch_loaded",
        7,
        "two\nlines",
        "info",
    )
    assert second["level"] == "warning"
    assert first["timestamp"].endswith("Z")


def test_logs_are_json_where_standard_error_is_no_terminal(capsys):
    assert json.loads(logged(capsys, "auto", "hello"))["event"] == "hello"


def test_logs_leave_standard_output_to_the_results(capsys, log_format):
    configure_logs(log_format, "INFO")
    structlog.get_logger().info("hello")
    assert capsys.readouterr().out == ""


def test_events_below_the_level_are_not_logged(capsys, log_format):
    configure_logs(log_format, "WARNING")
    structlog.get_logger().info("hello")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"password": SECRET},
        {"postgres_password": SECRET},
        {"client_secret": SECRET},
        {"POSTGRES_PASSWORD": SECRET},
        {"conninfo": f"host=db password={SECRET}"},
        {"uri": f"postgresql://l:{SECRET}@db/x"},
        {"error": RuntimeError(f"cannot reach postgresql://l:{SECRET}@db/x")},
        {"settings": {"uri": f"postgresql://l:{SECRET}@db/x", "deep": [{"password": SECRET}]}},
        {"uris": [f"postgresql://l:{SECRET}@db/x"]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_no_field_shows_a_password(capsys, log_format, fields):
    line = logged(capsys, log_format, "connecting", batch_id=7, **fields)
    assert "connecting" in line
    assert SECRET not in line


def test_no_message_shows_a_password(capsys, log_format):
    line = logged(capsys, log_format, f"connecting to postgresql://l:{SECRET}@db/x")
    assert SECRET not in line
    assert "db/x" in line


def test_no_traceback_shows_a_password(capsys, log_format):
    configure_logs(log_format, "INFO")
    uri = f"postgresql://l:{SECRET}@db/x"
    try:
        int(uri)
    except ValueError:
        structlog.get_logger().exception("failed")
    line = capsys.readouterr().err
    assert "ValueError" in line
    assert SECRET not in line


def test_a_readable_log_is_chosen_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "hello" in (line := logged(capsys, "auto", "hello"))
    assert not line.startswith("{")
