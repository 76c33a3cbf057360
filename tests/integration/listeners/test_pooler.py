"""A pooler in front of PostgreSQL: session pooling works; pools that share connections between clients are refused."""

import asyncio

import pytest
from listener_work import work_off
from pgbouncer import pooled
from programs import needs

from db.connect import connect
from db.database import Role
from db.schema import engine
from listeners.claims import StageClaims
from listeners.doorbell import Doorbell
from listeners.listen import WakeSource, WakeUp
from shared.errors import PipelineError
from shared.events import Stage

pytestmark = needs("pgbouncer")

SHARED = "a pooler shares PostgreSQL's connections"


@pytest.fixture(params=["transaction", "statement"])
def shared_pool(request, database, tmp_path):
    with pooled(database.conninfo(Role.SNAPSHOT), request.param, tmp_path / "pool") as conninfo:
        yield conninfo


def test_a_session_pool_serves_the_whole_chain_with_a_connection_for_each_session(
    database, settings, load_weeks, tmp_path
):
    load_weeks(1)
    conninfo = database.conninfo(Role.SNAPSHOT)
    with pooled(conninfo, "session", tmp_path / "pool", pool_size=2) as address:
        asyncio.run(work_off(database, settings, address))
        with connect(address, "test") as connection:
            assert connection.execute("show search_path").fetchone() == ("public, internal, pg_temp",)


def test_a_shared_pool_is_refused_by_every_way_to_connect(shared_pool):
    with pytest.raises(PipelineError, match=SHARED), connect(shared_pool, "test"):
        pass
    with pytest.raises(PipelineError, match=SHARED), engine(shared_pool, "test").connect():
        pass


def test_a_shared_pool_is_refused_by_a_worker_before_it_claims(shared_pool, load_weeks, as_superuser):
    load_weeks(1)

    async def claim():
        claims = StageClaims(Stage.SNAPSHOT, shared_pool)
        await claims.claim_next(WakeUp(WakeSource.START, 0.0), Doorbell())

    with pytest.raises(PipelineError, match=SHARED):
        asyncio.run(claim())
    with as_superuser() as connection:
        assert connection.execute("select metadata -> 'snapshot' from data_loads").fetchone() == (None,)
