"""What comes from outside stays data: in notifications, source files, settings and names. Each attack is made with and without."""

import asyncio
import csv
import json
import re
import shutil
import time
from contextlib import suppress
from decimal import Decimal
from types import SimpleNamespace

import psycopg
import psycopg2.extensions
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from db.connect import conninfo_for
from db.database import Database, Role, prepare_embedded
from db.load import send_rows, steps
from db.source.checked_file import CheckedFile
from db.source.training_set import (
    PRODUCT_COLUMNS,
    X_TRAIN,
    Y_TRAIN,
    _products,
    image_paths,
    read_training_set,
)
from listeners.doorbell import Doorbell
from listeners.listen import Timing, WakeSource, WakeUp, _connect_and_subscribe
from rakuten.commands.events import _as_json, _as_text
from shared import mlflow_names
from shared.config import read_settings
from shared.errors import BadSourceError, DatabaseUnavailableError
from shared.events import InvalidPayloadError
from shared.mlflow_names import dataset_name, parquet_name

HOSTILE = "x' host='evil.example"
ESCAPE = "\x1b]0;forged\x07"  # sets a terminal's title; others type into it


def pasted_conninfo(conninfo: str = "", **parts: object) -> str:
    """A connection string as one would write it without thinking."""
    return " ".join([conninfo, *(f"{name}='{value}'" for name, value in parts.items() if value is not None)])


# ---- notifications: any login of the database can send any payload on any channel


def wake_up(payload: str, channel: str = "batch_completed") -> WakeUp:
    return WakeUp(WakeSource.NOTIFY, time.monotonic(), channel, payload)


@pytest.mark.parametrize(
    "payload",
    [
        "1; delete from products",
        '{"v": 1, "batch_id": "1; delete from products"}',
        '{"v": 1, "batch_id": 1, "sql": "delete from products"}',
        '{"v": 1, "batch_id": -1}',
        '{"v": 1, "batch_id": 1e3}',
    ],
)
def test_a_payload_that_is_no_event_wakes_nobody(protected, monkeypatch, payload):
    if not protected:
        monkeypatch.setattr("listeners.doorbell.parse", lambda _, payload: SimpleNamespace(batch_id=payload))

    async def woken_by() -> WakeSource:
        doorbell = Doorbell()
        doorbell.ring(wake_up(payload))
        return (await doorbell.wait(0.01)).source

    assert (asyncio.run(woken_by()) is WakeSource.NOTIFY) is not protected


def parse_anything(_channel: str, payload: str):
    try:
        fields = json.loads(payload)
    except ValueError as error:
        raise InvalidPayloadError(str(error)) from error
    return SimpleNamespace(model_dump=lambda **_: fields)


@pytest.mark.parametrize(
    "wake",
    [
        wake_up(ESCAPE),
        wake_up(f'{{"v": 1, "batch_id": "{ESCAPE}"}}'),
        wake_up('{"v": 1, "batch_id": 1, "run_id": "\\u001b]0;forged\\u0007"}', "dataset_ready"),
    ],
    ids=["no event", "no batch", "no run_id"],
)
def test_no_notification_controls_the_terminal_of_rakuten_events(protected, monkeypatch, wake):
    if not protected:
        monkeypatch.setattr("rakuten.commands.events.printable", lambda text: text)
        monkeypatch.setattr("rakuten.commands.events.parse", parse_anything)
    assert (ESCAPE in _as_text(wake)) is not protected
    assert ESCAPE not in _as_json(wake)  # JSON has no such characters


# ---- source files

SQL_FIELDS = [
    "x', null, 'p', 1, 'train'); insert into public.labels (productid, prdtypecode) values (666, 1); --",
    "\\.",
    '","1","p","1","train","1"\n666,"',
    "%s %(x)s {} $1 :x",
]


@pytest.fixture
def source_files(settings, tmp_path):
    """A folder of source files; rows are written into it as (designation, productid, imageid)."""

    def write(*rows: tuple[str, object, object]):
        with (tmp_path / X_TRAIN).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerow(["", "designation", "description", "productid", "imageid"])
            writer.writerows(
                [n, text, "", productid, imageid] for n, (text, productid, imageid) in enumerate(rows)
            )
        labels = "".join(f"{n},10\n" for n in range(len(rows)))
        (tmp_path / Y_TRAIN).write_text(f",prdtypecode\n{labels}")
        shutil.copy(settings.data_path / "X_test.csv", tmp_path)
        return settings.model_copy(update={"data_path": tmp_path, "initial_percentage": Decimal(100)})

    return write  # fmt: skip


def copy_as_text(connection, statement, tables):
    """The load's COPY as one would write it without thinking."""
    for row in (row for table in tables for row in table.to_pylist()):
        table, columns = statement.removeprefix("load/copy_"), ", ".join(row)
        values = ", ".join("null" if value is None else f"'{value}'" for value in row.values())
        with suppress(psycopg.Error), connection.transaction():
            connection.execute(f"insert into {table} ({columns}) values ({values})".replace("%", "%%"))
    return 0


@pytest.mark.parametrize("text", SQL_FIELDS)
def test_a_field_with_sql_is_a_text(source_files, as_role, text):
    settings = source_files((text, 5, 5))
    with as_role(Role.LOADER) as loader:
        load_all(loader, settings)
        assert loader.execute("select productid, designation from products").fetchall() == [(5, text)]
        assert loader.execute("select productid from labels").fetchall() == [(5,)]


def test_a_field_with_sql_would_run_if_it_were_pasted(source_files, as_role, monkeypatch):
    monkeypatch.setattr(send_rows, "copy_rows", copy_as_text)
    settings = source_files((SQL_FIELDS[0], 5, 5))
    with as_role(Role.LOADER) as loader:
        load_all(loader, settings)
        assert (666,) in loader.execute("select productid from labels").fetchall()


def load_all(loader, settings):
    training_set = read_training_set(settings.data_path, settings.random_seed, settings.holdout_percentage)
    steps.load_increment(loader, steps.check_current_state(loader, settings, training_set), training_set)


@pytest.mark.parametrize("column", ["productid", "imageid"])
@pytest.mark.parametrize(
    "value", ["../../../../etc/passwd", "/etc/passwd", "1/../../../x", "1\n", "٣", "1e3"]
)
def test_an_id_with_a_path_in_it_leads_to_no_file(source_files, protected, monkeypatch, column, value):
    ids = {"productid": 5, "imageid": 5} | {column: value}
    settings = source_files(("a", ids["productid"], ids["imageid"]))
    if protected:
        with pytest.raises(BadSourceError, match=f"{column} is not a whole number"):
            read_training_set(settings.data_path, 42, 10)
        return
    monkeypatch.setattr(CheckedFile, "integers", lambda _self, block, column: block.text[column])
    monkeypatch.setattr(CheckedFile, "unique", lambda *_: None)
    file = CheckedFile(settings.data_path / X_TRAIN, PRODUCT_COLUMNS)
    rows = _products(file, with_texts=False)
    [path] = image_paths(rows, "image_train").to_pylist()
    assert value in path
    if ".." in value:
        images = settings.data_path / "images" / "image_train"
        assert not (settings.data_path / path).resolve().is_relative_to(images)


# ---- settings


@pytest.mark.parametrize("setting", ["postgres_db", "postgres_user", "postgres_password", "postgres_host"])
def test_a_setting_is_one_part_of_the_connection_string(protected, monkeypatch, setting):
    if not protected:
        monkeypatch.setattr("db.database.make_conninfo", pasted_conninfo)
        monkeypatch.setattr("db.connect.make_conninfo", pasted_conninfo)
    settings = read_settings(
        **{"postgres_host": "db.example", "postgres_user": "loader", setting: HOSTILE}, _env_file=None
    )
    conninfo = conninfo_for(Database(settings, None).conninfo(Role.LOADER), "test")
    for parse in (conninfo_to_dict, psycopg2.extensions.parse_dsn):  # of psycopg, and of aiopg's driver
        assert (parse(conninfo)["host"] == "evil.example") is not protected


def test_the_name_of_a_client_sets_nothing_else(database, protected, monkeypatch):
    if not protected:
        monkeypatch.setattr("db.connect.make_conninfo", pasted_conninfo)
    conninfo = conninfo_for(database.conninfo(Role.READER), "x' dbname='postgres")
    with psycopg.connect(conninfo) as connection:
        [name] = connection.execute("select current_database()").fetchone()
    assert (name == "postgres") is not protected


def test_the_name_of_the_database_is_a_name(server, protected, monkeypatch, tmp_path):
    """Without quotes it would make a database of the superuser's."""
    name, made = "intruder owner postgres --", "intruder"
    settings = read_settings(postgres_db=name, state_path=tmp_path, _env_file=None)
    if not protected:
        monkeypatch.setattr("db.database.sql.Identifier", sql.SQL)
    try:
        with suppress(DatabaseUnavailableError):  # nothing is called by the whole name then
            prepare_embedded(settings, server)
        with psycopg.connect(server.conninfo(), autocommit=True) as superuser:
            owners = dict(
                superuser.execute("select datname, pg_get_userbyid(datdba) from pg_database").fetchall()
            )
    finally:
        monkeypatch.undo()
        with psycopg.connect(server.conninfo(), autocommit=True) as superuser:
            for database in (name, made):
                superuser.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(database)))
    assert (owners.get(made) == "postgres") is not protected
    assert (owners.get(name) == Role.OWNER) is protected  # fmt: skip


# ---- names


def test_the_name_of_a_channel_is_a_name(database, as_role, protected, monkeypatch):
    if not protected:
        monkeypatch.setattr("listeners.listen.sql.Identifier", psycopg2.sql.SQL)
    channel = "x; insert into labels (productid, prdtypecode) values (666, 1)"

    async def subscribe():
        conninfo = conninfo_for(database.conninfo(Role.LOADER), "test")
        connection = await _connect_and_subscribe(conninfo, [channel], Timing(5, 3))
        await connection.close()

    asyncio.run(subscribe())
    with as_role(Role.READER) as reader:
        found = reader.execute("select productid from labels").fetchall()
    assert (found == [(666,)]) is not protected


@pytest.mark.parametrize("name", ["week_/../../../tmp/x", "../x", "week_1/x", "week_1\x00"])
def test_the_name_of_a_batch_becomes_no_path(protected, monkeypatch, tmp_path, name):
    """It names the dataset, its file and its run."""
    if not protected:
        monkeypatch.setattr(mlflow_names, "_DATASET_NAME", re.compile("(?s).*"))
    try:
        path = tmp_path / parquet_name(dataset_name(name))
    except ValueError:
        path = None
    assert (path is not None) is not protected
