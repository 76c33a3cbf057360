"""Settings of a database, a login or a shell that a session inherits: the pipeline works the same with each of them."""

import asyncio
from contextlib import ExitStack

import psycopg
import pytest
import scripted_handler
from empty_database import empty_database
from listener_work import work_off
from psycopg import sql

from db.batches import pipeline_doctor, pipeline_status
from db.connect import connect, connect_arrow, open_async_connection
from db.database import Role
from db.load.correction import correct
from db.sql import query
from listeners.child import warm_up
from listeners.listen import Timing, _connect_and_subscribe
from shared.events import Channel

HOSTILE = {
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "search_path": "pg_catalog",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Chatham",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-15",
    "statement_timeout": "1s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "transaction_timeout": "1s",
    "row_security": "off",
    "plan_cache_mode": "force_generic_plan",
    "client_encoding": "LATIN1",
    "role": "rakuten_reader",
}


@pytest.fixture(scope="module", autouse=True)
def _warm():
    asyncio.run(warm_up(scripted_handler.__name__))


@pytest.fixture
def inherit(database, server):
    """Make every later session in this test's database inherit a setting."""

    def alter(name: str, value: str) -> None:
        # Connected to another database, because a setting may break this connection, too.
        with psycopg.connect(server.conninfo(), autocommit=True) as superuser:
            superuser.execute(
                sql.SQL("alter database {} set {} = {}").format(
                    sql.Identifier(database.settings.postgres_db),
                    sql.SQL(".").join(map(sql.Identifier, name.split("."))),
                    sql.Literal(value) if name != "search_path" else sql.SQL(value),
                )
            )

    return alter


def pipe(database, settings, load_weeks, tmp_path):
    """Upgrade the schema, load a week, correct a product, let a worker work on both batches, and read the second."""
    database.upgrade()
    load_weeks(1)
    with connect(database.conninfo(Role.LOADER), "test") as connection:
        [productid] = connection.execute("select min(productid) from products").fetchone()
        connection.rollback()
        file = tmp_path / "titles.csv"
        file.write_text(f"productid,designation\n{productid},été \\ 'quoted'\n")
        batch_id = correct(connection, settings, file).batch_id
    asyncio.run(work_off(database, settings, database.conninfo(Role.SNAPSHOT)))
    with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
        assert {row["snapshot_state"] for row in pipeline_status(connection)} == {"finished"}
        findings = {row["finding"] for row in pipeline_doctor(connection)} - {"no listener"}
        assert findings == set()
    with connect_arrow(database.conninfo(Role.SNAPSHOT), "test") as connection:
        batches = connection.read(query("snapshot/batch_rows"), {"batch_id": batch_id})
        return [row for batch in batches for row in batch.to_pylist()]


async def every_session(conninfo: str, statement: str) -> list[str]:
    """What each of the four kinds of session answers to a statement: synchronous, asynchronous, Arrow and listening."""
    with connect(conninfo, "test") as connection:
        [(answer,)] = connection.execute(statement).fetchall()
    answers = [answer]
    async with await open_async_connection(conninfo, "test") as connection:
        [(answer,)] = await (await connection.execute(statement)).fetchall()
    answers.append(answer)
    with connect_arrow(conninfo, "test") as connection:
        answers += [batch.to_pylist()[0]["answer"] for batch in connection.read(statement)]
    listening = await _connect_and_subscribe(conninfo, [Channel.BATCH_COMPLETED], Timing(5, 3))
    async with listening.cursor() as cursor:
        await cursor.execute(statement)
        [(answer,)] = await cursor.fetchall()
    await listening.close()
    return [*answers, answer]


def test_every_kind_of_session_has_the_same_settings(database, inherit, server):
    names = [name for name in HOSTILE if name != "transaction_timeout" or server.version >= 17]
    columns = ", ".join(f"current_setting('{name}')" for name in names)
    statement = f"select concat_ws(' | ', {columns}) as answer"
    conninfo = database.conninfo(Role.READER)
    before = asyncio.run(every_session(conninfo, statement))
    for name in names:
        inherit(name, HOSTILE[name])
    after = asyncio.run(every_session(conninfo, statement))
    assert len(set(before)) == 1
    assert before == after


@pytest.fixture
def expected(another_database, settings, training_set, load_weeks_into, tmp_path_factory):
    """The rows that the pipe reads from a database without any such setting."""

    def load(count):
        load_weeks_into(another_database, settings, training_set, count)

    rows = pipe(another_database, settings, load, tmp_path_factory.mktemp("expected"))
    assert len(rows) == 240
    return rows


@pytest.mark.parametrize(("name", "value"), HOSTILE.items(), ids=HOSTILE)
def test_a_setting_of_the_database_changes_nothing(
    database, settings, load_weeks, tmp_path, expected, inherit, server, name, value
):
    if name == "transaction_timeout" and server.version < 17:
        pytest.skip("PostgreSQL 17 has introduced transaction_timeout")
    inherit(name, value)
    assert pipe(database, settings, load_weeks, tmp_path) == expected


def test_all_of_them_at_once(database, settings, load_weeks, tmp_path, expected, inherit, server):
    for name, value in HOSTILE.items():
        if name != "transaction_timeout" or server.version >= 17:
            inherit(name, value)
    assert pipe(database, settings, load_weeks, tmp_path) == expected


def test_variables_of_the_shell_change_nothing(
    database, settings, load_weeks, tmp_path, expected, monkeypatch
):
    for name, value in {
        "PGDATESTYLE": "German",
        "PGTZ": "Asia/Kathmandu",
        "PGCLIENTENCODING": "LATIN1",
        "PGOPTIONS": "-c search_path=pg_catalog -c statement_timeout=1s",
        "PGAPPNAME": "somebody",
    }.items():
        monkeypatch.setenv(name, value)
    assert pipe(database, settings, load_weeks, tmp_path) == expected


COLLATIONS = {
    "ICU, French": "locale_provider icu icu_locale 'fr-FR' locale 'C'",
    "libc, bytes": "locale_provider libc locale 'C'",
}


@pytest.fixture(params=COLLATIONS.values(), ids=COLLATIONS)
def sorted_otherwise(request, server, tmp_path):
    """A database whose texts sort in another order."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(
                empty_database(
                    server,
                    "sorted_otherwise",
                    f"encoding 'UTF8' {request.param}",
                    state_path=tmp_path / "sorted",
                )
            )
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("this PostgreSQL was built without ICU")
        yield found


def test_a_database_that_sorts_otherwise_gives_the_same_rows(
    sorted_otherwise, settings, training_set, load_weeks_into, tmp_path, expected
):
    def load(count):
        load_weeks_into(sorted_otherwise, settings, training_set, count)

    assert pipe(sorted_otherwise, settings, load, tmp_path) == expected


def test_a_library_that_every_session_loads_changes_nothing(
    database, settings, load_weeks, tmp_path, expected, inherit, server
):
    try:
        with psycopg.connect(server.conninfo()) as connection:
            connection.execute("load 'auto_explain'")
    except psycopg.errors.UndefinedFile:
        pytest.skip("this PostgreSQL has no auto_explain")
    inherit("session_preload_libraries", "auto_explain")
    for name, value in {"log_min_duration": "0", "log_analyze": "on", "log_level": "notice"}.items():
        inherit(f"auto_explain.{name}", value)
    assert pipe(database, settings, load_weeks, tmp_path) == expected
