"""A worker that stalls between two writes to MLflow, loses its connections, and goes on when others have done its work."""

import hashlib
import threading
from contextlib import suppress

import psycopg
import pytest
from champion_models import wrong
from jobs import claim_job, finish
from waiting import eventually

from db.connect import connect
from db.database import Role
from listeners import reconcile
from listeners.job import Job, Task
from listeners.promotion.champion_history import champion_history
from listeners.snapshot import handle as snapshot
from listeners.tracking import registry
from listeners.tracking.runs import Tracking
from listeners.training import handle as training
from rakuten.provenance.verify import verify
from shared.events import Stage
from shared.mlflow_names import REGISTERED_MODEL

REGISTER, LOG, TAG, ALIAS = (
    "create_model_version",
    "log_dict",
    "set_registered_model_tag",
    "set_registered_model_alias",
)
WRITES = [(REGISTER, 1), (LOG, 1), (TAG, 1), (ALIAS, 1), (TAG, 2)]


class Killed(BaseException):
    """As SIGKILL: nothing is tidied up."""


@pytest.fixture
def stalls(models, monkeypatch):
    """Lets a worker stall before the n-th call of a method of MLflow's client, while others work; its connections are lost."""

    def at(method, call, work, others, *, then_killed=False):
        calls, original = [], getattr(models.client, method)

        def count(*arguments, **options):
            calls.append(arguments)
            if len(calls) != call:
                return original(*arguments, **options)
            models.end_sessions("rakuten champion")
            others()
            answer = original(*arguments, **options)
            if then_killed:
                raise Killed
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(models.client, method, count)
            with suppress(psycopg.OperationalError, Killed):
                work()
        assert len(calls) >= call

    return at


def require_consistent(models, moves):
    history = champion_history(models.tracking)
    assert [(move.from_version, move.to_version) for move in history] == moves
    assert {move.kind for move in history} == {"promotion"}
    assert models.champion == moves[-1][1]
    before = ""
    for move in history:
        assert move.before_sha256 == before
        before = hashlib.sha256(move.model_dump_json().encode()).hexdigest()
    tags = models.client.get_registered_model(REGISTERED_MODEL).tags
    assert sum(name.startswith("champion_history.") for name in tags) == len(moves)


@pytest.mark.parametrize(("method", "call"), WRITES)
def test_what_others_have_done_meanwhile_stays_as_it_is(models, stalls, method, call):
    models.finish(models.run(1, wrong(0, 60)))
    runs = [models.run(week, wrong(0, 60 - 5 * week)) for week in (2, 3)]
    done = []

    def others():
        done.extend(models.finish(run, attempt=2) for run in runs)

    stalls(method, call, lambda: models.finish(runs[0], attempt=1), others)

    versions = [registry.versions_of(models.tracking, run.info.run_id) for run in runs]
    second, third = (int(version.version) for [version] in versions)
    assert [version for version, _promotion in done] == [second, third]
    require_consistent(models, [(None, 1), (1, second), (second, third)])
    for run, (_version, promotion), champion in zip(runs, done, (1, second), strict=True):
        assert models.verdict((run, None), promotion.verdict)["champion_version"] == champion
    assert models.finish(runs[0], attempt=3)[0] == second


def test_what_a_killed_worker_has_left_is_cleared_when_a_listener_starts(models, stalls, settings):
    models.finish(models.run(1, wrong(0, 60)))
    runs = [models.run(week, wrong(0, 60 - 5 * week)) for week in (2, 3)]
    stalls(
        TAG,
        1,
        lambda: models.finish(runs[0], attempt=1),
        lambda: [models.finish(run, attempt=2) for run in runs],
        then_killed=True,
    )
    models.move_by_hand(2)  # as the killed worker would have done next
    reconcile.handle(Task(Stage.TRAINING, models.conninfo, settings, reconcile.__name__))
    require_consistent(models, [(None, 1), (1, 2), (2, 3)])


def test_a_request_that_mlflow_has_carried_out_twice_leaves_one_version(models, monkeypatch):
    """The client repeats a request when the answer was lost."""
    create = models.client.create_model_version

    def twice(*arguments, **options):
        create(*arguments, **options)
        return create(*arguments, **options)

    run = models.run(1, wrong(0, 60))
    monkeypatch.setattr(models.client, REGISTER, twice)
    assert models.finish(run)[0] == 1
    assert [version.version for version in registry.versions_of(models.tracking, run.info.run_id)] == [1]


def test_a_worker_that_stalls_before_it_registers_its_model_leaves_one_of_everything(
    database, settings, load_weeks, monkeypatch
):
    """The real stages: the claim is lost after it was asked for, and another worker takes the batch."""
    [batch_id] = load_weeks(1)
    dataset = claim_job(Stage.SNAPSHOT, database.conninfo(Role.SNAPSHOT), settings, batch_id)
    finish(dataset, snapshot.handle(dataset))
    conninfo = database.conninfo(Role.TRAINING)
    stalled, asked = claim_job(Stage.TRAINING, conninfo, settings, batch_id), []
    others = threading.Thread(
        target=lambda: finish(
            other := claim_job(Stage.TRAINING, conninfo, settings, batch_id), training.handle(other)
        )
    )
    require_claim = Job.require_claim

    def stall(job):
        require_claim(job)
        if job is stalled:
            asked.append(job)
            if len(asked) == 2:  # first before the run is finished, then before the model is registered
                others.start()
                eventually(lambda: not others.is_alive() or waits_for_the_lock(conninfo))

    monkeypatch.setattr(Job, "require_claim", stall)
    training.handle(stalled)
    others.join()
    tracking = Tracking(settings)
    assert len(tracking.client.search_model_versions(f"name = '{REGISTERED_MODEL}'")) == 1
    assert [move.to_version for move in champion_history(tracking)] == [1]
    with connect(database.conninfo(Role.READER), "test", autocommit=True) as connection:
        checks = verify(connection, tracking, settings.snapshots_path)
        assert [check for check in checks if check.problem is not None] == []


def waits_for_the_lock(conninfo):
    with connect(conninfo, "test", autocommit=True) as connection:
        statement = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        return connection.execute(statement).fetchone() != (0,)
