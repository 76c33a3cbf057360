import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import psycopg
import pytest
import scripted_handler
from jobs import claim_of
from psycopg.rows import dict_row
from structlog.testing import capture_logs
from waiting import eventually, until

from db.database import Role
from listeners.child import warm_up
from listeners.children import Children
from listeners.doorbell import Doorbell
from listeners.job import Task
from listeners.listen import WakeSource, WakeUp
from listeners.worker import StageWorker
from shared.errors import StageError
from shared.events import Channel, Stage, parse

DEADLINE_S = 60


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """Children are forked from one server a process; without its preloads each would import the heavy libraries anew."""
    asyncio.run(warm_up(scripted_handler.__name__))


@pytest.fixture
def quick(settings):
    """Settings whose backoffs a test can wait for."""
    settings = settings.model_copy(
        update={"retry_base_s": 0.05, "max_attempts": 3, "ping_interval_s": 0.2, "grace_period_s": 0.2}
    )
    settings.state_path.mkdir(parents=True, exist_ok=True)
    return settings


@pytest.fixture
def script(quick):
    def write(steps: str) -> None:
        scripted_handler.script_of(quick).write_text(steps)

    write("")
    return write


@asynccontextmanager
async def working(database, settings, *, stage=Stage.SNAPSHOT):
    """A worker at work until the block ends; yields its doorbell and its stop."""
    doorbell, stop = Doorbell(), asyncio.Event()
    conninfo = database.conninfo(Role[stage.upper()])
    worker = StageWorker(
        stage, conninfo, settings, doorbell, stop, handler="scripted_handler", reconciler=None
    )
    task = asyncio.create_task(worker.run())
    doorbell.ring(WakeUp(WakeSource.START, time.monotonic()))
    try:
        yield doorbell, stop
    finally:
        stop.set()
        doorbell.interrupt()
        await asyncio.wait_for(task, DEADLINE_S)


@pytest.fixture
def stage_record(as_superuser):
    def read(batch_id: int, stage: str = "snapshot") -> dict:
        with as_superuser() as connection:
            row = connection.execute(
                "select coalesce(metadata -> %s, '{}') from data_loads where id = %s", [stage, batch_id]
            ).fetchone()
        return row[0]

    return read


@pytest.fixture
def heard(database):
    """Listen on all channels; returns a function that gives what has arrived, parsed."""
    connection = psycopg.connect(database.conninfo(Role.READER), autocommit=True)
    for channel in Channel:
        connection.execute(f"listen {channel}")
    events = []

    def so_far():
        events.extend(parse(n.channel, n.payload) for n in connection.notifies(timeout=0))
        return [type(event).__name__ for event in events]

    yield so_far
    connection.close()


def test_the_log_has_the_values_of_a_result_and_none_of_its_lists_and_dictionaries(
    database, quick, script, load_weeks, stage_record
):
    [batch_id] = load_weeks(1)

    async def scenario():
        async with working(database, quick):
            await until(lambda: stage_record(batch_id).get("state") == "finished")

    with capture_logs() as logs:
        asyncio.run(scenario())
    [finished] = [entry for entry in logs if entry["event"] == "finished"]
    assert (finished["run_id"], finished["rows"]) == (f"run-{batch_id}-1", 1)
    assert {"wake", "duration_s", "attempt", "batch_id", "stage"} <= finished.keys()
    assert not {"classes", "drift"} & finished.keys()


def test_a_batch_is_worked_on_recorded_and_announced(
    database, quick, script, load_weeks, stage_record, heard
):
    [batch_id] = load_weeks(1)

    async def scenario():
        async with working(database, quick):
            await until(lambda: stage_record(batch_id).get("state") == "finished")

    asyncio.run(scenario())
    record = stage_record(batch_id)
    assert record["result"] == {"run_id": f"run-{batch_id}-1", **scripted_handler.DETAILS}
    assert (record["attempt"], record["wake"]) == (1, "start")
    assert "DatasetReady" in heard()


def test_two_batches_are_worked_on_in_order(database, quick, script, load_weeks, stage_record):
    first, second = load_weeks(2)

    async def scenario():
        async with working(database, quick):
            await until(lambda: stage_record(second).get("state") == "finished")

    asyncio.run(scenario())
    assert stage_record(first)["finished_at"] < stage_record(second)["claimed_at"]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [("fail", "the script says so"), ("crash", "ZeroDivisionError: a defect"), ("die", "killed by SIGKILL")],
)
def test_a_batch_that_always_fails_is_given_up_with_its_reason_and_holds_up_no_other(
    database, quick, script, load_weeks, stage_record, heard, steps, reason
):
    [batch_id] = load_weeks(1)
    script(steps)

    async def scenario():
        async with working(database, quick) as (doorbell, _):
            await until(lambda: stage_record(batch_id).get("state") == "failed")
            script("")
            [second] = load_weeks(1)
            doorbell.ring(WakeUp(WakeSource.POLL, time.monotonic()))
            await until(lambda: stage_record(second).get("state") == "finished")

    asyncio.run(scenario())
    record = stage_record(batch_id)
    assert record["failures"] == quick.max_attempts
    assert reason in record["error"]
    assert heard().count("StageFailed") == 1


def test_an_outage_is_waited_out_however_long_it_lasts_and_counts_as_no_failure(
    database, quick, script, load_weeks, stage_record, heard
):
    [batch_id] = load_weeks(1)
    script("outage")
    patient = quick.model_copy(update={"outage_retry_max_s": 0.05})

    async def scenario():
        async with working(database, patient):
            await until(lambda: stage_record(batch_id).get("outages", 0) > quick.max_attempts)
            assert stage_record(batch_id)["outage_since"] is not None
            script("")
            await until(lambda: stage_record(batch_id).get("state") == "finished")

    asyncio.run(scenario())
    record = stage_record(batch_id)
    assert (record.get("failures", 0), record["outage_since"], record["error"]) == (0, None, None)
    assert heard().count("StageFailed") == 0


def test_the_delay_of_an_outage_doubles_up_to_its_limit(load_weeks, as_role, stage_record):
    [batch_id] = load_weeks(1)
    delays = []
    with as_role(Role.SNAPSHOT, autocommit=True) as connection:
        for _ in range(5):
            claim = "select claim_stage(%s, 'snapshot', 'host:1', 'notify', '0 s')"
            [attempt] = connection.execute(claim, [batch_id]).fetchone()
            postpone = "select postpone_stage(%s, 'snapshot', %s, 'away', '10 ms', '50 ms')"
            connection.execute(postpone, [batch_id, attempt])
            ready = "select ready_at - clock_timestamp() from pending_batches('snapshot')"
            [delay] = connection.execute(ready).fetchone()
            delays.append(delay.total_seconds())
            connection.execute("select pg_sleep(0.06)")
    assert all(
        delay <= longest for delay, longest in zip(delays, (0.01, 0.02, 0.04, 0.05, 0.05), strict=True)
    )
    record = stage_record(batch_id)
    assert (record["outages"], record["outages_in_a_row"]) == (5, 5)


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        "fail_stage(%s, 'snapshot', 1, 'a fault', '1 s')",
        "postpone_stage(%s, 'snapshot', 1, 'away', '1 s', '1 s')",
    ],
)
def test_a_clock_that_is_set_back_holds_up_no_batch(load_weeks, as_role, as_superuser, outcome):
    """As seen from a clock that runs an hour behind, everything that is recorded lies in the future."""
    [batch_id] = load_weeks(1)
    claim = "select claim_stage(%s, 'snapshot', 'host:1', 'notify', '0 s')"
    with as_role(Role.SNAPSHOT, autocommit=True) as connection:
        if outcome is not None:
            assert connection.execute(claim, [batch_id]).fetchone() == (1,)
            connection.execute(f"select {outcome}", [batch_id])
    with as_superuser() as connection:
        connection.execute("alter table data_loads disable trigger all")
        connection.execute(
            "update data_loads set completed_at = completed_at + interval '1 hour', metadata = metadata || jsonb_build_object("
            " 'snapshot', (select jsonb_object_agg(key, case when key like '%\\_at' then to_jsonb((value #>> '{}')::timestamptz"
            " + interval '1 hour') else value end) from jsonb_each(metadata -> 'snapshot')))"
            if outcome is not None
            else "update data_loads set completed_at = completed_at + interval '1 hour'"
        )
        connection.execute("alter table data_loads enable trigger all")
    with as_role(Role.SNAPSHOT, autocommit=True) as connection:
        assert connection.execute(claim, [batch_id]).fetchone() == (1 if outcome is None else 2,)


def test_the_ledger_tells_what_woke_each_stage_and_how_long_each_step_took(
    database, quick, script, load_weeks, as_role
):
    load_weeks(1)

    async def scenario():
        async with working(database, quick):
            await until(lambda: ledger()["snapshot"]["state"] == "finished")

    def ledger():
        with as_role(Role.READER) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return {row["stage"]: row for row in cursor.execute("select * from stage_ledger")}

    asyncio.run(scenario())
    snapshot, training = ledger()["snapshot"], ledger()["training"]
    assert (snapshot["wake"], snapshot["attempts"], snapshot["error"]) == ("start", 1, None)
    steps = [snapshot[f"{step}_s"] for step in ("ready_to_wake", "wake_to_claim", "claim_to_done")]
    assert all(seconds >= 0 for seconds in steps[1:])
    assert snapshot["ready_at"] < snapshot["claimed_at"] < snapshot["finished_at"]
    # the dataset is there, so training waits from that moment on
    assert (training["state"], training["ready_at"]) == ("waiting", snapshot["finished_at"])


def test_looking_for_work_costs_the_same_however_much_is_done(as_superuser, database):
    with as_superuser() as connection:
        connection.execute(
            "insert into data_loads (batch_name, percentage, status, metadata)"
            " select 'week_' || n, 1, 'completed', '{\"snapshot\": {\"state\": \"finished\"}}'"
            " from generate_series(1, 3000) as n"
        )
        connection.commit()
        body = connection.execute("select prosrc from pg_proc where proname = 'pending_batches'").fetchone()[
            0
        ]
        plan = connection.execute(
            "explain " + body.replace("stage = 'snapshot'", "true").replace("stage = 'training'", "false")
        ).fetchall()
    assert "data_loads_pending_snapshot" in str(plan)


def test_claiming_costs_the_same_however_much_was_done_since_the_last_vacuum(as_superuser):
    claim = "select id, attempt from claim_next('snapshot', 'host:1', 'notify', '0 s', '{}')"

    def work(connection, weeks):
        for week in weeks:
            connection.execute(
                "insert into data_loads (batch_name, percentage, status) values (%s, 1, 'completed')",
                [f"week_{week}"],
            )
            claimed = connection.execute(claim).fetchone()
            connection.execute("select finish_stage(%s, 'snapshot', %s, '{\"run_id\": \"r\"}')", claimed)

    def pages(connection):
        connection.execute(claim)  # the first look finds what has died since the last
        [[[plan]]] = connection.execute(f"explain (analyze, buffers, format json) {claim}").fetchall()
        return plan["Plan"]["Shared Hit Blocks"]

    with as_superuser(autocommit=True) as connection:
        connection.execute("alter table data_loads set (autovacuum_enabled = false)")
        work(connection, range(1, 21))
        after_20 = pages(connection)
        work(connection, range(21, 301))
        connection.execute("analyze data_loads")
        assert pages(connection) <= after_20 + 5


def test_a_batch_that_was_given_up_is_revived_by_retry(
    database, quick, script, load_weeks, stage_record, as_role
):
    [batch_id] = load_weeks(1)
    script("fail")

    async def scenario():
        async with working(database, quick) as (doorbell, _):
            await until(lambda: stage_record(batch_id).get("state") == "failed")
            script("")
            with as_role(Role.SNAPSHOT) as connection:
                connection.execute("select retry_stage(%s, 'snapshot')", [batch_id])
            doorbell.ring(WakeUp(WakeSource.POLL, time.monotonic()))
            await until(lambda: stage_record(batch_id).get("state") == "finished")

    asyncio.run(scenario())


def test_a_stop_hands_work_back_that_does_not_end_in_time(
    database, quick, script, load_weeks, stage_record, heard
):
    [batch_id] = load_weeks(1)
    script("hang")
    heard()

    async def scenario():
        async with working(database, quick) as (_, stop):
            await until((quick.state_path / f"snapshot-{batch_id}-1.started").exists)
            stop.set()

    asyncio.run(scenario())
    record = stage_record(batch_id)
    assert (record["state"], record.get("failures", 0)) == ("waiting", 0)
    assert heard().count("BatchCompleted") == 2  # its own, and the ring for whoever takes it up


def test_a_claim_outlives_the_loss_of_its_connection(
    database, quick, script, load_weeks, stage_record, as_superuser
):
    [batch_id] = load_weeks(1)
    script("hang")
    # it is the loss that is heard: no ping is due before the test's deadline
    seldom = quick.model_copy(update={"ping_interval_s": 3600})

    async def scenario():
        async with working(database, seldom) as (_, stop):
            await until((quick.state_path / f"snapshot-{batch_id}-1.started").exists)
            with as_superuser(autocommit=True) as connection:
                terminate = (
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and application_name = 'rakuten snapshot work'"
                )
                assert connection.execute(terminate).rowcount == 1
                await until(lambda: connection.execute(ADVISORY_LOCKS).fetchone()[0] == 1)
            stop.set()

    asyncio.run(scenario())
    assert stage_record(batch_id)["attempt"] == 1


ADVISORY_LOCKS = (
    "select count(*) from pg_locks where locktype = 'advisory' and objid <> 0"
    " and database = (select oid from pg_database where datname = current_database())"
)


def test_two_workers_share_the_batches_and_do_none_twice(database, quick, script, load_weeks, stage_record):
    batches = load_weeks(4)

    async def scenario():
        async with working(database, quick), working(database, quick):
            await until(lambda: all(stage_record(batch).get("state") == "finished" for batch in batches))

    asyncio.run(scenario())
    assert [stage_record(batch)["attempt"] for batch in batches] == [1, 1, 1, 1]


def test_a_worker_that_lost_its_claim_records_nothing(
    database, quick, script, load_weeks, stage_record, as_superuser
):
    [batch_id] = load_weeks(1)
    script("hang")

    async def scenario():
        async with working(database, quick):
            await until((quick.state_path / f"snapshot-{batch_id}-1.started").exists)
            with as_superuser() as connection:
                connection.execute(
                    "update data_loads set metadata = jsonb_set(metadata, '{snapshot,attempt}', '7') where id = %s",
                    [batch_id],
                )
            await until(lambda: stage_record(batch_id)["attempt"] == 8)  # fenced, and claimed anew

    asyncio.run(scenario())
    assert stage_record(batch_id).get("result") is None


def test_a_fenced_attempt_is_told_so_before_it_publishes(database, quick, script, load_weeks):
    [batch_id] = load_weeks(1)
    script("fence")
    task = Task(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), quick, scripted_handler.__name__)

    async def scenario():
        async with (
            Children(task) as children,
            children.assigned_child(task.handler, claim_of(task.conninfo, batch_id, 99)) as child,
        ):
            await child.result()

    with pytest.raises(StageError, match="lost its claim"):
        asyncio.run(scenario())


def test_a_child_that_was_killed_while_it_waited_is_replaced(database, quick, script, load_weeks):
    [batch_id] = load_weeks(1)
    task = Task(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), quick, scripted_handler.__name__)

    async def scenario():
        async with Children(task) as children:
            waiting = await children._next
            waiting._process.kill()
            waiting._process.join()
            async with children.assigned_child(task.handler, claim_of(task.conninfo, batch_id, 1)) as child:
                return await child.result()

    assert asyncio.run(scenario()) == {"run_id": f"run-{batch_id}-1", **scripted_handler.DETAILS}


@pytest.mark.parametrize(
    "outcome",
    [
        "finish_stage(%s, 'snapshot', 1, '{\"run_id\": \"x\"}')",
        "fail_stage(%s, 'snapshot', 1, 'a fault', '1 h')",
        "fail_stage(%s, 'snapshot', 1, 'a fault', null)",
        "postpone_stage(%s, 'snapshot', 1, 'away', '1 h', '1 h')",
    ],
)
def test_a_batch_whose_outcome_is_being_committed_is_not_claimed_again(
    load_weeks, as_role, database, outcome
):
    """The outcome's transaction has released the advisory lock, and not committed yet; the rival's is older than the outcome."""
    [batch_id] = load_weeks(1)
    claim = "select claim_stage(%s, 'snapshot', 'host:1', 'notify', '0 s')"
    with (
        as_role(Role.SNAPSHOT) as finishing,
        as_role(Role.SNAPSHOT) as rival,
        ThreadPoolExecutor() as pool,
    ):
        finishing.execute(claim, [batch_id])
        finishing.commit()
        rival.execute("select now()")
        finishing.execute(f"select {outcome}", [batch_id])
        claimed = pool.submit(lambda: rival.execute(claim, [batch_id]).fetchone()[0])
        with as_role(Role.READER, autocommit=True) as watching:
            waits = "select 1 from pg_locks where not granted"
            eventually(lambda: watching.execute(waits).fetchone())
        finishing.commit()
        assert claimed.result(DEADLINE_S) is None


def test_waiting_batches_are_claimed_in_the_order_in_which_they_were_completed(as_superuser):
    """A batch that failed keeps its id, and may complete after batches with greater ids."""
    with as_superuser() as connection:
        connection.execute(
            "insert into data_loads (batch_name, percentage, status)"
            " values ('correction_1', 1, 'failed'), ('week_1', 1, 'completed')"
        )
        connection.execute("update data_loads set status = 'completed' where batch_name = 'correction_1'")
        waiting = connection.execute("select batch_name from pending_batches('snapshot')").fetchall()
        [(claimed, number)] = connection.execute(
            "select name, chain_number from claim_next('snapshot', 'host:1', 'notify', '0 s', '{}')"
        ).fetchall()
    assert waiting == [("week_1",), ("correction_1",)]
    assert (claimed, number) == ("week_1", 1)
