"""No password is in a log, a repr, an error, a file that others may read, or a statement that the server may log."""

import asyncio
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
import structlog
from jobs import made_up_job

import rakuten.cli
import shared.logs
from db.connect import conninfo_for, unavailable
from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.embedded.cluster import Cluster
from db.schema import engine
from listeners import child
from listeners.listen import _connect
from shared.config import Settings, read_settings
from shared.errors import LoadError

SECRET = "hunter2"  # noqa: S105
URL = f"postgresql://loader:{SECRET}@db.example/x"
CONNINFO = f"host=db.example user=loader password={SECRET}"


def uncensored(text: str) -> str:
    return text


# ---- logs


def log_a_field(log):
    log.info("connecting", password=SECRET)


def log_a_nested_field(log):
    log.info("connecting", settings={"deep": [{"client_secret": SECRET}]})


def log_a_message(log):
    log.info("connecting to " + URL)  # noqa: G003


def log_an_error(log):
    log.warning("lost", error=psycopg.OperationalError(CONNINFO))


def log_a_traceback(log):
    try:
        int(URL)
    except ValueError:
        log.exception("failed")


def log_from_a_library(_log):
    shared.logs.logging.getLogger("sqlalchemy.engine").error("cannot connect to %s", URL)


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "leak",
    [
        log_a_field,
        log_a_nested_field,
        log_a_message,
        log_an_error,
        log_a_traceback,
        log_from_a_library,
    ],
)
def test_no_log_shows_a_password(protected, monkeypatch, capsys, leak, log_format):
    if not protected:
        monkeypatch.setattr(shared.logs, "censor", uncensored)
        monkeypatch.setattr(shared.logs, "_SECRET_NAME", SimpleNamespace(search=lambda _: None))
    shared.logs.configure_logs(log_format, "INFO")
    leak(structlog.get_logger())
    assert (SECRET in capsys.readouterr().err) is not protected


# ---- errors


def test_an_unreachable_server_is_named_without_its_password(protected, monkeypatch):
    if not protected:
        monkeypatch.setattr("db.connect.censor", uncensored)
    error = unavailable(CONNINFO, psycopg.OperationalError(f"invalid connection: {URL}"))
    assert (SECRET in str(error)) is not protected
    assert "loader@db.example" in str(error)


def test_a_url_in_the_place_of_a_host_is_not_repeated():
    """POSTGRES_HOST=postgresql://... is a mistake that people make."""
    settings = read_settings(postgres_host=URL, postgres_user="loader", _env_file=None)
    error = unavailable(Database(settings, None).conninfo(Role.LOADER), psycopg.OperationalError("x"))
    assert SECRET not in str(error)


def test_the_command_line_shows_no_password(protected, monkeypatch, capsys):
    if not protected:
        monkeypatch.setattr("shared.logs.censor", uncensored)  # imported when it is needed

    def lost():
        raise psycopg.OperationalError(f"connection to {URL} failed")

    monkeypatch.setattr(rakuten.cli, "app", lost)
    with pytest.raises(SystemExit):
        rakuten.cli.main()
    assert (SECRET in capsys.readouterr().err) is not protected


@pytest.mark.parametrize("error", [RuntimeError, LoadError, ConnectionError])
def test_what_a_stage_records_of_its_failure_shows_no_password(protected, monkeypatch, error, tmp_path):
    """It goes into data_loads, where every role reads it."""
    if not protected:
        monkeypatch.setattr(child, "censor", uncensored)
        monkeypatch.setattr("listeners.outages.censor", uncensored)

    def handle(_job):
        raise error(f"cannot reach {URL}")

    monkeypatch.setitem(sys.modules, "failing_handler", SimpleNamespace(handle=handle))
    settings = read_settings(state_path=tmp_path, _env_file=None)
    job = made_up_job(settings, "failing_handler", CONNINFO)
    assert (SECRET in str(child._outcome(job))) is not protected


# ---- reprs


@pytest.fixture
def settings_with_secrets():
    return read_settings(
        postgres_host="db.example",
        postgres_user="loader",
        postgres_password=SECRET,
        mlflow_tracking_uri=f"https://u:{SECRET}@mlflow.example",
        mlflow_backend_store_uri=URL,
        _env_file=None,
    )


@pytest.mark.parametrize("setting", ["postgres_password", "mlflow_backend_store_uri"])
def test_no_secret_setting_is_in_a_repr(settings_with_secrets, protected, setting):
    settings = settings_with_secrets
    if not protected:
        plain = getattr(settings, setting).get_secret_value()
        settings = settings.model_copy(update={setting: plain})
    database = Database(settings, None)
    assert (SECRET in repr(settings) + str(settings) + repr(database)) is not protected


def test_the_address_of_mlflow_which_may_hold_a_password_is_in_no_repr(protected, monkeypatch):
    if not protected:
        monkeypatch.setattr(Settings.model_fields["mlflow_tracking_uri"], "repr", True)
    settings = read_settings(mlflow_tracking_uri=f"https://u:{SECRET}@mlflow.example", _env_file=None)
    assert (SECRET in repr(settings)) is not protected


def test_no_repr_of_a_connection_shows_its_password(database):
    """The drivers see to it: here is where a version that does not would be found."""
    conninfo = conninfo_for(database.conninfo(Role.READER), "test")
    secret = psycopg.conninfo.conninfo_to_dict(conninfo)["password"]

    async def listening() -> str:
        connection = await _connect(conninfo)
        try:
            return repr(connection) + repr(connection.raw)
        finally:
            await connection.close()

    made = engine(conninfo, "test")
    with psycopg.connect(conninfo) as connection, made.connect() as borrowed:
        reprs = repr(connection) + repr(connection.info) + repr(made) + repr(borrowed)
    assert secret not in reprs + asyncio.run(listening())


def test_no_repr_of_a_job_shows_its_password(settings_with_secrets):
    job = made_up_job(settings_with_secrets, "handler", CONNINFO)
    assert SECRET not in repr(job)


# ---- the embedded PostgreSQL


@pytest.mark.parametrize("name", [".", "password", "server.log"])
def test_the_files_of_the_embedded_server_are_its_owners(protected, monkeypatch, tmp_path, name):
    if not protected:
        open_, mkdir, touch = os.open, Path.mkdir, Path.touch
        # as Python makes files and folders when nobody asks
        monkeypatch.setattr(os, "open", lambda path, flags, *_, **__: open_(path, flags, 0o666))
        monkeypatch.setattr(Path, "mkdir", lambda path, **options: mkdir(path, **options | {"mode": 0o777}))
        monkeypatch.setattr(Path, "touch", lambda path, **_: touch(path))
    cluster = Cluster(tmp_path / "cluster")
    as_ourselves = SimpleNamespace(account=SimpleNamespace(chown=lambda _: None))
    with cluster.lock(timeout_s=1):
        cluster._write_new_password(as_ourselves)
        cluster.prepare_log(as_ourselves)
    mode = stat.S_IMODE((cluster.directory / name).stat().st_mode)
    assert bool(mode & 0o077) is not protected


def test_a_server_that_logs_every_statement_logs_no_password(protected, monkeypatch, server, tmp_path):
    if not protected:
        monkeypatch.setattr("db.database._scram", lambda _connection, _user, password: password)
    directory = server._cluster.directory / f"logging-{protected}"
    bindir = Path(server.program("postgres")).parent
    settings = read_settings(state_path=tmp_path, _env_file=None)
    with EmbeddedPostgres(
        directory, bindir=bindir, durable=False, settings={"log_statement": "all"}
    ) as logging:
        prepare_embedded(settings, logging)
        log = logging._cluster.log_path.read_text()
        assert "create role" in log
        assert (logging.password in log) is not protected
