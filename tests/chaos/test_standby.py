"""A real streaming standby is promoted after the primary has crashed: the same worker goes on, and nothing counts as a failure."""

import asyncio
import os
import shutil
import signal

import psycopg
import pytest
import scripted_handler
from listener_work import all_finished, at_work
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from standby import standby_of
from waiting import eventually, until

from db.database import Database, Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.source.training_set import read_training_set
from listeners.child import warm_up
from shared.config import read_settings


@pytest.fixture
def directory(server):
    """Beside the tests' server, where the account that runs PostgreSQL may write."""
    path = server._cluster.directory.parent / f"{server._cluster.directory.name}-replicated"
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_promoted_standby_takes_over(directory, generated, load_weeks_into, tmp_path):
    asyncio.run(warm_up(scripted_handler.__name__))
    with EmbeddedPostgres(directory / "primary", durable=False) as primary:
        settings = read_settings(state_path=tmp_path / "state", data_path=generated, _env_file=None)
        database = prepare_embedded(settings, primary)
        training_set = read_training_set(
            settings.data_path, settings.random_seed, settings.holdout_percentage
        )
        load_weeks_into(database, settings, training_set, 1)
        with standby_of(primary, directory / "standby") as standby:
            after = Database(settings, standby)
            addresses = [conninfo_to_dict(one.conninfo(Role.SNAPSHOT)) for one in (after, database)]
            several = make_conninfo(
                database.conninfo(Role.SNAPSHOT),
                host=",".join(str(address["host"]) for address in addresses),
                port=",".join(str(address["port"]) for address in addresses),
                target_session_attrs="read-write",
            )

            async def scenario():
                async with at_work(settings, several):
                    await until(lambda: all_finished(database))
                    eventually(lambda: all_finished(after))  # the standby has replayed it
                    os.kill(primary._postmaster.pid, signal.SIGKILL)
                    # the worker meets a primary that is gone and a standby that cannot write
                    await asyncio.sleep(1)
                    with psycopg.connect(standby.conninfo(), autocommit=True) as superuser:
                        superuser.execute("select pg_promote()")
                    await asyncio.to_thread(load_weeks_into, after, settings, training_set, 1)
                    await until(lambda: all_finished(after))

            asyncio.run(scenario())
            with psycopg.connect(after.conninfo(Role.READER)) as connection:
                records = connection.execute(
                    "select metadata #>> '{snapshot,failures}', metadata #>> '{snapshot,attempt}' from data_loads"
                ).fetchall()
        assert records == [(None, "1"), (None, "1")]
