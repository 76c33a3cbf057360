"""The events of loads and stages, as the tables tell them, whichever process took which step."""

import asyncio
import time
from contextlib import contextmanager
from itertools import pairwise

import openlineage_reader
import pytest
import scripted_handler
import structlog
from waiting import until

from db.batches import read_batch
from db.database import Role
from db.load import steps
from db.load.correction import correct
from db.load.openlineage_events import emit_load_events
from listeners.child import warm_up
from listeners.claims import Claim
from listeners.doorbell import Doorbell
from listeners.listen import WakeSource, WakeUp
from listeners.openlineage_events import StageEvents
from listeners.worker import StageWorker
from shared.errors import LoadError
from shared.events import Stage
from shared.hashing import sha256_of
from shared.openlineage.emitter import Emitter


@pytest.fixture
def events(settings):
    """(job, state, run id) of every event so far."""

    def read():
        path = settings.openlineage_path
        found = openlineage_reader.read(path) if path.exists() else []
        return [(event.job.name, event.eventType.value, event.run.runId) for event in found]

    return read


@pytest.fixture
def read(settings):
    return lambda: openlineage_reader.read(settings.openlineage_path)


@pytest.fixture
def loader(database, settings):
    """A connection, as each process of a load has its own."""

    return lambda: database.connect(Role.LOADER, "test")


@contextmanager
def load_events(connection, settings, batch_id=None):
    with Emitter(settings) as emitter, emit_load_events(connection, emitter, batch_id) as run:
        yield run


def claim_and_load(connection, run, settings, training_set):
    plan = steps.check_current_state(connection, settings, training_set)
    result = steps.load_increment(connection, plan, training_set)
    run.started(result.batch_id)
    return result


def test_a_load_starts_and_completes_with_the_batch_s_seal(loader, settings, training_set, read):
    with loader() as connection, load_events(connection, settings) as run:
        result = claim_and_load(connection, run, settings, training_set)
        steps.validate_data_load(connection, result.batch_id)
        steps.complete_batch(connection, result.batch_id)
        *moments, seal = connection.execute(
            "select started_at, completed_at, metadata #>> '{audit,seal}' from data_loads"
        ).fetchone()
    started, completed = read()
    assert [started.eventTime, completed.eventTime] == [moment.isoformat() for moment in moments]
    assert started.run.runId == completed.run.runId
    assert [item.facets["version"].datasetVersion for item in completed.outputs] == [seal, seal]
    assert not any("version" in item.facets for item in started.outputs)
    assert [item.outputFacets["outputStatistics"].rowCount for item in completed.outputs] == [240, 240]
    assert {item.name for item in completed.inputs} == {
        str(settings.data_path / name) for name in ("X_train.csv", "Y_train.csv")
    }


def test_the_steps_of_a_load_may_run_in_processes_of_their_own(loader, settings, training_set, events):
    with loader() as connection, load_events(connection, settings) as run:
        batch_id = claim_and_load(connection, run, settings, training_set).batch_id
    with loader() as connection, load_events(connection, settings, batch_id):
        steps.validate_data_load(connection, batch_id)
    with loader() as connection, load_events(connection, settings, batch_id):
        steps.complete_batch(connection, batch_id)
    [(*started, first), (*completed, second)] = events()
    assert (started, completed, first) == (["load", "START"], ["load", "COMPLETE"], second)


def test_a_load_that_fails_says_why_and_the_next_one_is_another_run(
    loader, settings, training_set, read, as_superuser
):
    with loader() as connection, load_events(connection, settings) as run:
        batch_id = claim_and_load(connection, run, settings, training_set).batch_id
    with as_superuser() as connection:
        connection.execute("delete from labels where productid = (select min(productid) from products)")
    with pytest.raises(LoadError), loader() as connection, load_events(connection, settings, batch_id):
        steps.validate_data_load(connection, batch_id)
    _, failed = read()
    assert failed.eventType.value == "FAIL"
    assert "without a label" in failed.run.facets["errorMessage"].message
    with loader() as connection, load_events(connection, settings) as run:
        claim_and_load(connection, run, settings, training_set)
        steps.complete_batch(connection, batch_id)
    again, completed = read()[2:]
    assert (again.run.runId, completed.eventType.value) == (completed.run.runId, "COMPLETE")
    assert again.run.runId != failed.run.runId


def test_a_correction_is_a_load_of_its_own_file(loader, settings, load_weeks, tmp_path, read):
    load_weeks(1)
    file = tmp_path / "titles.csv"
    with loader() as connection, load_events(connection, settings) as run:
        [productid] = connection.execute("select min(productid) from products").fetchone()
        connection.rollback()
        file.write_text(f"productid,designation\n{productid},Another title\n")
        run.started(correct(connection, settings, file).batch_id)
    started, completed = read()
    assert [event.eventType.value for event in (started, completed)] == ["START", "COMPLETE"]
    [given] = completed.inputs
    assert (given.name, given.facets["version"].datasetVersion) == ("titles.csv", sha256_of(file))
    assert [item.outputFacets["outputStatistics"].rowCount for item in completed.outputs] == [1, 0]


def start_and_break_off(run, batch_id):
    run.started(batch_id)
    raise KeyboardInterrupt


def break_off():
    raise ZeroDivisionError


def test_a_load_that_is_broken_off_is_aborted_and_taken_up_by_another_run(
    loader, settings, training_set, events
):
    with loader() as connection:
        plan = steps.check_current_state(connection, settings, training_set)
        result = steps.load_increment(connection, plan, training_set)
        with pytest.raises(KeyboardInterrupt), load_events(connection, settings) as run:
            start_and_break_off(run, result.batch_id)
    with loader() as connection, load_events(connection, settings) as run:
        claim_and_load(connection, run, settings, training_set)
    (*_, first), (*_, second), (*_, third) = found = events()
    assert [state for _, state, _ in found] == ["START", "ABORT", "START"]
    assert first == second != third


def test_a_later_step_that_is_to_be_repeated_ends_nothing(loader, settings, training_set, events):
    with loader() as connection, load_events(connection, settings) as run:
        batch_id = claim_and_load(connection, run, settings, training_set).batch_id
    with (
        loader() as connection,
        pytest.raises(ZeroDivisionError),
        load_events(connection, settings, batch_id),
    ):
        break_off()
    assert [state for _, state, _ in events()] == ["START"]


def test_a_load_goes_on_without_its_events(loader, settings, training_set, events, as_superuser):
    with structlog.testing.capture_logs() as logged:
        with loader() as connection, load_events(connection, settings) as run:
            batch_id = claim_and_load(connection, run, settings, training_set).batch_id
            connection.close()
        with loader() as connection:
            steps.complete_batch(connection, batch_id)
    assert [entry["event"] for entry in logged] == ["no OpenLineage event: the batch cannot be read"]
    assert [state for _, state, _ in events()] == ["START"]


@pytest.fixture
def record_of(as_role):
    def read(batch_id):
        with as_role(Role.READER) as connection:
            return read_batch(connection, batch_id)

    return read


@pytest.fixture
def tell(settings):
    """Tell what became of batches, in order, as a stage's worker does."""

    def told(stage, *steps):
        async def run():
            worker = StageEvents(stage, settings)
            for name, *arguments in steps:
                getattr(worker, name)(*arguments)
            await worker.close()

        asyncio.run(run())

    return told


@pytest.mark.parametrize("stage", Stage)
def test_an_attempt_that_starts_ends_in_one_of_three_ways(load_weeks, record_of, tell, events, stage):
    [batch_id] = load_weeks(1)
    ways = [("aborted", "stopped"), ("failed", "no disk"), ("finished", {"run_id": "r"})]
    for number, (way, argument) in enumerate(ways, 1):
        attempt = Claim(record_of(batch_id), number, 0, "notify")
        tell(stage, ("started", attempt), (way, attempt, argument))
    found = events()
    assert [event[:2] for event in found] == [
        (stage, state) for end in ("ABORT", "FAIL", "COMPLETE") for state in ("START", end)
    ]
    ids = [run_id for _, _, run_id in found]
    assert [first == second for first, second in pairwise(ids)] == [True, False, True, False, True]


def test_a_stage_says_what_it_was_given_and_what_it_made(load_weeks, record_of, tell, read, as_role):
    [batch_id] = load_weeks(1)
    with as_role(Role.READER) as connection:
        [seal] = connection.execute("select seal from verify_seals()").fetchone()
    attempt = Claim(record_of(batch_id), 1, 0, "notify")
    result = {"run_id": "d" * 32, "dataset_sha256": "da7a", "total_rows": 900}
    tell(Stage.SNAPSHOT, ("started", attempt), ("finished", attempt, result))
    started, finished = read()
    assert {item.facets["version"].datasetVersion for item in started.inputs} == {seal}
    [dataset] = finished.outputs
    assert dataset.facets["version"].datasetVersion == "da7a"
    assert dataset.facets["symlinks"].identifiers[0].name == f"runs:/{'d' * 32}/train_week_1.parquet"


@pytest.fixture
def attempt(database, settings):
    """A real worker and a real child that does what `steps` say, stopped when `stop_when` says so."""
    quick = settings.model_copy(update={"retry_base_s": 0.05, "ping_interval_s": 0.2, "grace_period_s": 0.1})
    quick.state_path.mkdir(parents=True, exist_ok=True)
    asyncio.run(warm_up(scripted_handler.__name__))

    async def run(steps, stop_when):
        scripted_handler.script_of(quick).write_text(steps)
        doorbell, stop = Doorbell(), asyncio.Event()
        conninfo = database.conninfo(Role.SNAPSHOT)
        worker = StageWorker(
            Stage.SNAPSHOT, conninfo, quick, doorbell, stop, handler="scripted_handler", reconciler=None
        )
        task = asyncio.create_task(worker.run())
        doorbell.ring(WakeUp(WakeSource.START, time.monotonic()))
        async with asyncio.timeout(60):
            await until(stop_when)
            scripted_handler.script_of(quick).write_text("hang")
            stop.set()
            doorbell.interrupt()
            await task

    return lambda steps, stop_when: asyncio.run(run(steps, stop_when))


def test_a_worker_tells_each_attempt_as_it_ends(attempt, load_weeks, record_of, events, read):
    """Stopped, failing, in an outage, done; and of the batch what its claim brought along."""
    [batch_id] = load_weeks(1)

    def ended(state):
        return lambda: state in [told for _, told, _ in events()[known:]]

    for scripted, state in (("hang", "START"), ("fail", "FAIL"), ("outage", "ABORT"), ("", "COMPLETE")):
        known = len(events())
        attempt(scripted, ended(state))
    runs = {}
    for _, state, run_id in events():
        runs.setdefault(run_id, []).append(state)
    assert {states[0] for states in runs.values()} == {"START"}
    assert all(len(states) == 2 for states in runs.values()), runs
    ends = [states[1] for states in runs.values()]
    assert (ends[0], ends[-1], "FAIL" in ends) == ("ABORT", "COMPLETE", True)
    seals = {item.facets["version"].datasetVersion for event in read() for item in event.inputs}
    assert seals == {record_of(batch_id).seal}


def test_a_failure_that_no_longer_counts_is_told_as_none(attempt, load_weeks, events):
    load_weeks(1)
    attempt("lose fail", lambda: len(events()) > 1)
    assert [state for _, state, _ in events()] == ["START", "ABORT"]
