"""A server that answers, but cannot do it now: the primary that became a standby, a standby, and a host with several addresses."""

import asyncio
import socket

import psycopg
import pytest
from listener_work import work_off
from psycopg import sql
from psycopg.conninfo import make_conninfo

from db.database import Role
from shared.errors import LoadError


@pytest.fixture
def read_only(database, as_superuser):
    """Make the database read-only, as the server of a demoted primary is, and writable again."""

    def switch(value: str) -> None:
        with as_superuser(autocommit=True) as superuser:
            name = sql.Identifier(database.settings.postgres_db)
            superuser.execute("set default_transaction_read_only = off")
            superuser.execute(
                sql.SQL("alter database {} set default_transaction_read_only = {}").format(
                    name, sql.SQL(value)
                )
            )

    return switch


def test_a_worker_waits_until_the_server_is_writable(database, settings, load_weeks, read_only, as_superuser):
    load_weeks(1)
    read_only("on")

    async def scenario():
        working = asyncio.create_task(work_off(database, settings, database.conninfo(Role.SNAPSHOT)))
        await asyncio.sleep(
            1.5
        )  # the worker must have met the read-only server: it tries several times a second
        assert not working.done()
        await asyncio.to_thread(read_only, "off")
        await working

    asyncio.run(scenario())
    with as_superuser() as connection:
        [(record,)] = connection.execute("select metadata -> 'snapshot' from data_loads").fetchall()
    assert (record["state"], record["attempt"], record.get("failures", 0)) == ("finished", 1, 0)


def test_a_load_and_an_upgrade_say_what_to_do(database, load_weeks, read_only):
    read_only("on")
    with pytest.raises(LoadError, match="read-only transaction") as refused:
        load_weeks(1)
    assert "wait until it is promoted, or connect to the primary" in refused.value.remedy
    database.upgrade()  # there is nothing to change, so a read-only server is no obstacle
    read_only("off")
    load_weeks(1)


@pytest.fixture
def refusing_port():
    """A port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_every_host_and_port_is_tried(database, settings, load_weeks, refusing_port):
    load_weeks(1)
    whole = psycopg.conninfo.conninfo_to_dict(database.conninfo(Role.SNAPSHOT))
    several = make_conninfo(
        **whole | {"host": f"127.0.0.1,{whole['host']}", "port": f"{refusing_port},{whole['port']}"}
    )
    asyncio.run(work_off(database, settings, several))


def test_a_batch_is_processed_although_nothing_can_listen(database, settings, load_weeks, monkeypatch):
    async def refuse(*_):
        raise ConnectionRefusedError("nobody listens here")

    monkeypatch.setattr("listeners.listen._connect", refuse)
    load_weeks(1)
    asyncio.run(work_off(database, settings, database.conninfo(Role.SNAPSHOT), ring=False))
