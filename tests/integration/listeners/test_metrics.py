"""A listener answers /metrics from threads of its own, whatever PostgreSQL does."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from psycopg.conninfo import make_conninfo
from recorded_results import promote, record_both
from scrape import scrape

from db.database import Role
from listeners.listen import WakeSource, WakeUp
from listeners.monitoring import facts
from listeners.monitoring.exporter import COUNTERS, GAUGES, Exporter
from listeners.monitoring.process_state import ProcessState
from shared.errors import PipelineError
from shared.events import Stage

pytestmark = pytest.mark.anyio
OWN = {*GAUGES, *(f"{name}_total" for name in COUNTERS)}
STAGE = ("stage", "training")
SESSIONS = "select count(*) from pg_stat_activity where application_name = 'rakuten training metrics'"


@dataclass
class IdleWork:
    """A worker that has no batch."""

    has_claim: bool = False
    fenced: int = 0

    def child_silent_s(self) -> float:
        return 0.0


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def exporting(database, settings, port):
    """Run an exporter on this event loop; yield the state of its process, and a function that scrapes it in a thread."""

    @asynccontextmanager
    async def opened(conninfo=None):
        process = ProcessState(Stage.TRAINING, IdleWork())
        exporter = Exporter(
            settings.model_copy(update={"metrics_port": port}),
            conninfo or database.conninfo(Role.TRAINING),
            process,
        )
        try:
            yield process, lambda: asyncio.to_thread(scrape, port)
        finally:
            await exporter.close()

    return opened


async def test_every_described_metric_is_exported_and_no_other(exporting, load_weeks, database, settings):
    _first, batch_id = load_weeks(2)  # before the second week, no growth is known
    record_both(database, settings, batch_id)
    promote(database, batch_id)
    with database.connect(Role.READER, "test", autocommit=True) as reader:
        reader.execute("select record_verification(1, 0)")
        with database.connect(Role.TRAINING, "rakuten training listen"):
            async with exporting() as (_process, scraped):
                names = {name for name, *_ in await scraped()}
    histograms = {f"{name}_{part}" for name in facts.HISTOGRAMS for part in ("bucket", "count", "sum")}
    assert names == {*facts.GAUGES, *histograms, *OWN}


async def test_nothing_is_asked_of_postgresql_until_somebody_scrapes_and_then_with_one_session(
    exporting, as_superuser
):
    with as_superuser(autocommit=True) as connection:
        async with exporting() as (_process, scraped):
            assert connection.execute(SESSIONS).fetchone() == (0,)
            await asyncio.gather(*(scraped() for _ in range(5)))
            assert connection.execute(SESSIONS).fetchone() == (1,)


async def test_without_postgresql_the_process_still_answers_its_own_metrics(exporting, database, settings):
    nowhere = make_conninfo(database.conninfo(Role.TRAINING), port=1)
    async with exporting(nowhere) as (_process, scraped):
        found = await scraped()
    assert found["rakuten_database_up", STAGE] == 0
    assert {name for name, *_ in found} == OWN
    assert not settings.state_path.exists()  # its disk is measured all the same
    assert found["rakuten_disk_size_bytes", STAGE] > found["rakuten_disk_free_bytes", STAGE] > 0


async def test_a_query_that_hangs_is_given_up_and_blocks_no_event_loop(exporting, as_superuser, monkeypatch):
    monkeypatch.setattr(facts, "_NUMBERS_DEADLINE_S", 1.0)
    async with exporting() as (_process, scraped):
        assert (await scraped())["rakuten_database_up", STAGE] == 1
        with as_superuser() as holder:
            holder.execute("lock table data_loads in access exclusive mode")
            scraping, ticks, begun = asyncio.create_task(scraped()), 0, time.monotonic()
            while not scraping.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert (await scraping)["rakuten_database_up", STAGE] == 0
            assert ticks > 10 * (time.monotonic() - begun)  # of 100 a second
        assert (await scraped())["rakuten_database_up", STAGE] == 1


async def test_sizes_that_do_not_come_take_no_other_number_away(exporting, as_superuser):
    async with exporting() as (_process, scraped):
        with as_superuser() as holder:
            holder.execute("lock table products in access exclusive mode")  # its size waits for the lock
            for _ in range(2):
                found = await scraped()
                assert found["rakuten_database_up", STAGE] == 1
                assert found["rakuten_listeners", STAGE] == 0
                assert "rakuten_storage_bytes" not in {name for name, *_ in found}


def test_a_sample_of_a_newer_database_and_one_without_a_number_are_left_out():
    samples = [
        facts.Sample("rakuten_from_the_future", {}, 1),
        facts.Sample("rakuten_rows", {}, None),
        facts.Sample("rakuten_target_rows", {}, 7),
    ]
    found = [sample for metric in facts.families(samples) for sample in metric.samples]
    assert [(sample.name, sample.value) for sample in found] == [("rakuten_target_rows", 7)]


async def test_a_session_that_was_ended_is_opened_again(exporting, as_superuser):
    async with exporting() as (_process, scraped):
        await scraped()
        with as_superuser(autocommit=True) as connection:
            connection.execute(SESSIONS.replace("count(*)", "pg_terminate_backend(pid)"))
        results = [(await scraped())["rakuten_database_up", STAGE] for _ in range(2)]
    assert results[-1] == 1


async def test_the_state_of_the_process_is_shown(exporting):
    async with exporting() as (process, scraped):
        process.wake_up(WakeUp(WakeSource.RECONNECT, 0.0))
        process.wake_up(WakeUp(WakeSource.NOTIFY, 0.0))
        process.work.has_claim, process.work.fenced = True, 2
        first, second = await scraped(), await scraped()
        process.alive()
        third = await scraped()
    assert first["rakuten_listener_reconnects_total", STAGE] == 1
    assert first["rakuten_fenced_total", STAGE] == 2
    assert first["rakuten_listener_working", STAGE] == 1
    age = ("rakuten_listener_ping_age_seconds", STAGE)
    assert third[age] < second[age]
    assert first[age] < second[age]


async def test_an_address_that_is_in_use_is_named_and_another_one_works(exporting, port):
    message = f"cannot answer /metrics on 127.0.0.1, port {port}"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PipelineError, match=message):
        async with exporting():
            pass
    async with exporting() as (_process, scraped):
        assert (await scraped())["rakuten_database_up", STAGE] == 1
