"""A listener proves that its work lives, and not only its own process: what stands still is ended and tried again."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from multiprocessing import forkserver
from pathlib import Path

import pytest
import scripted_handler
from jobs import claim_of
from waiting import until

import listeners.child
import listeners.worker
from db.batches import pipeline_doctor
from db.database import Role
from listeners import fork_server
from listeners.child import Child, warm_up
from listeners.children import Children
from listeners.doorbell import Doorbell
from listeners.job import Task
from listeners.listen import WakeSource, WakeUp
from listeners.worker import StageWorker
from shared.errors import OutageError
from shared.events import Stage

DEADLINE_S = 60


@pytest.fixture(scope="module", autouse=True)
def _warm():
    asyncio.run(warm_up(scripted_handler.__name__))


@pytest.fixture
def quick(settings):
    """Settings whose deadlines a test can wait for."""
    settings.state_path.mkdir(parents=True, exist_ok=True)
    return settings.model_copy(
        update={"retry_base_s": 0.05, "ping_interval_s": 0.2, "grace_period_s": 0.2, "stall_timeout_s": 4.0}
    )


@pytest.fixture
def script(quick):
    return scripted_handler.script_of(quick).write_text


@pytest.fixture
def record(as_superuser):
    def read(batch_id: int) -> dict:
        with as_superuser() as connection:
            statement = "select coalesce(metadata -> 'snapshot', '{}') from data_loads where id = %s"
            return connection.execute(statement, [batch_id]).fetchone()[0]

    return read


@pytest.fixture
def doctor(database):
    def findings():
        with database.connect(Role.READER, "test") as connection:
            found = pipeline_doctor(connection, unresponsive_after=timedelta(seconds=0.7))
        return {finding["finding"] for finding in found}

    return findings


@asynccontextmanager
async def working(database, settings):
    """A worker at work until the block ends."""
    doorbell, stop = Doorbell(), asyncio.Event()
    conninfo = database.conninfo(Role.SNAPSHOT)
    worker = StageWorker(
        Stage.SNAPSHOT, conninfo, settings, doorbell, stop, handler="scripted_handler", reconciler=None
    )
    task = asyncio.create_task(worker.run())
    doorbell.ring(WakeUp(WakeSource.START, time.monotonic()))
    try:
        yield worker
    finally:
        stop.set()
        doorbell.interrupt()
        await asyncio.wait_for(task, DEADLINE_S)


async def child_at_work(settings, batch_id: int, attempt: int = 1) -> int:
    """The pid of the child that works on a batch."""
    started = settings.state_path / f"snapshot-{batch_id}-{attempt}.started"
    await until(started.exists)
    return int(started.read_text())


def test_a_frozen_child_is_seen_killed_and_its_batch_is_tried_again_as_no_failure(
    database, quick, script, load_weeks, record, doctor
):
    [batch_id] = load_weeks(1)
    script("hang")

    async def scenario():
        async with working(database, quick) as worker:
            pid = await child_at_work(quick, batch_id)
            await asyncio.sleep(1)  # longer than the doctor's patience: the claim is renewed
            assert worker.is_responsive()
            assert "work without progress" not in doctor()
            os.kill(pid, signal.SIGSTOP)
            script("")
            await until(lambda: "work without progress" in doctor())
            await until(lambda: not worker.is_responsive())
            await until(lambda: record(batch_id)["state"] == "finished")
            await until(worker.is_responsive)

    asyncio.run(scenario())
    row = record(batch_id)
    assert (row["attempt"], row.get("failures", 0), row["outages"]) == (2, 0, 1)
    assert row["error"] is None


def test_a_batch_on_which_the_child_stalls_each_time_is_given_up_in_the_end(
    database, quick, script, load_weeks, record
):
    [batch_id] = load_weeks(1)
    script("freeze")
    impatient = quick.model_copy(update={"max_attempts": 1, "stall_timeout_s": 1.5})

    async def scenario():
        async with working(database, impatient):
            await until(lambda: record(batch_id).get("state") == "failed")

    asyncio.run(scenario())
    row = record(batch_id)
    assert (row["outages"], row["failures"]) == (1, 1)
    assert "gave no sign of life" in row["error"]


def test_a_child_that_computes_for_longer_than_the_limit_goes_on(database, quick, script, load_weeks, record):
    [batch_id] = load_weeks(1)
    script("compute")
    impatient = quick.model_copy(update={"stall_timeout_s": scripted_handler.COMPUTE_S - 1.5})

    async def scenario():
        async with working(database, impatient):
            await until(lambda: record(batch_id).get("state") == "finished")

    asyncio.run(scenario())
    assert (record(batch_id)["attempt"], record(batch_id).get("outages", 0)) == (1, 0)


def test_a_child_that_waits_for_an_answer_that_never_comes_is_ended_too(
    database, quick, script, load_weeks, record, monkeypatch
):
    monkeypatch.setattr(listeners.worker, "_WAITING_FACTOR", 1)
    [batch_id] = load_weeks(1)
    script("wait")

    async def scenario():
        async with working(database, quick):
            await child_at_work(quick, batch_id)
            script("")
            await until(lambda: record(batch_id).get("outages"))
            assert "only waited" in record(batch_id)["error"]
            await until(lambda: record(batch_id)["state"] == "finished")

    asyncio.run(scenario())
    assert record(batch_id).get("failures", 0) == 0


def frozen_fork_server():
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGSTOP)


def emptied_temporary_folder():
    shutil.rmtree(Path(forkserver._forkserver._forkserver_address).parent)


@pytest.mark.parametrize("fault", [frozen_fork_server, emptied_temporary_folder])
def test_a_fork_server_that_is_frozen_or_out_of_reach_is_replaced_and_no_attempt_is_lost(
    database, quick, script, load_weeks, record, monkeypatch, fault
):
    monkeypatch.setattr(listeners.child, "_REPORT_S", 2.0)
    monkeypatch.setattr(listeners.child, "RECONCILE", "listeners.job")  # the new server imports what it must
    monkeypatch.setattr(listeners.child, "_PRELOAD", "listeners.job")
    batches = load_weeks(3)
    script("hang")

    async def scenario():
        async with working(database, quick):
            await child_at_work(quick, batches[0])
            fault()
            script("")
            await until(lambda: all(record(batch).get("state") == "finished" for batch in batches))

    asyncio.run(scenario())
    assert [record(batch)["attempt"] for batch in batches] == [1, 1, 1]


def test_a_missing_temporary_folder_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "removed"))
    fork_server.make_folders()
    assert (tmp_path / "removed").is_dir()


def test_while_a_killed_child_does_not_end_no_further_one_is_given_work(
    database, quick, script, load_weeks, monkeypatch
):
    """As a process in state D: a signal has no effect until the operating system lets the process go."""
    [batch_id] = load_weeks(1)
    script("hang")
    task = Task(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), quick, scripted_handler.__name__)
    claim = claim_of(task.conninfo, batch_id, 1)

    async def scenario():
        async with Children(task) as children:
            with monkeypatch.context() as without_effect:
                without_effect.setattr(listeners.child, "_EXIT_S", 0.3)
                without_effect.setattr(Child, "kill", lambda child: os.kill(child.pid, signal.SIGSTOP))
                without_effect.setattr(fork_server, "kill", lambda: None)
                async with children.assigned_child(task.handler, claim) as stuck:
                    await child_at_work(quick, batch_id)
            script("")
            with pytest.raises(OutageError, match=f"child process {stuck.pid} does not end"):
                async with children.assigned_child(task.handler, claim):
                    pass
            os.kill(stuck.pid, signal.SIGKILL)
            await until(lambda: stuck.has_ended)
            async with children.assigned_child(task.handler, claim) as child:
                await child.result()

    asyncio.run(scenario())
