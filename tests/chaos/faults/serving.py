"""Kill or freeze the model server, or cut it off from PostgreSQL or MLflow, while the champion moves and a client sends requests."""

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from environment import Environment, needs_linux
from measure import is_done, serves_champion, wait_until
from prediction_client import Client, problems
from runs import Fault, Run

from db.database import Role
from listeners.promotion.rollback import roll_back
from listeners.tracking.runs import Tracking

PREPARED_S = 120
NOTICED_S = 30
# the newest model that is not the champion
_OTHER = """
    select model_version as version from batches
    where model_version <> (select version from champion)
    order by chain_number desc limit 1
"""


def move_champion(
    run: Run,
    *,
    fault: Callable[[Run], AbstractContextManager[None]],
    seconds: float,
    allowed: Collection[int | None],
):
    """A person moves the champion in the fault, which lasts for some seconds more.

    Requests may then fail with the statuses in `allowed`, where None is no answer.
    """
    environment = run.environment
    while not environment.query(_OTHER):
        run.load()
        run.require(wait_until(lambda: is_done(environment, run.batch_ids)), "a week was not done")
    ready = wait_until(lambda: serves_champion(environment), deadline_s=PREPARED_S)
    run.require(ready, "the champion was not served before the fault")
    moves = [environment.model_server.model()["version"], environment.query(_OTHER)[0]["version"]]
    with Client(environment.model_server) as client:
        run.require(client.wait_for_predictions(), "nothing was predicted before the fault")
        began_at = time.monotonic()
        with fault(run):
            _move(environment, moves[1])
            time.sleep(seconds)
        if run.ended_at is None:
            run.ended()
        run.measure_until(lambda: serves_champion(environment))
        over_at = time.monotonic()
        run.require(client.wait_for_predictions(), "nothing was predicted after the fault")
    run.problems += problems(client.answers, moves, (began_at, over_at), allowed)
    run.require(serves_champion(environment), "the champion is not served any more")
    yield


def _move(environment: Environment, version: int) -> None:
    """As `rakuten rollback --to` does, past the proxies."""
    settings = environment.settings.model_copy(update={"mlflow_tracking_uri": environment.mlflow_server.url})
    login = environment.database.conninfo(Role.TRAINING)
    roll_back(Tracking(settings), login, version, reason="fault suite", by="somebody")


@contextmanager
def killed(run: Run) -> Iterator[None]:
    """The server is killed before the champion moves."""
    _kill(run)
    yield


@contextmanager
def killed_while_loading(run: Run) -> Iterator[None]:
    with _logged(run, "loading the champion"):
        yield
    _kill(run)


def _kill(run: Run) -> None:
    os.kill(run.environment.fleet.server_pid, signal.SIGKILL)
    run.ended()


@contextmanager
def frozen(run: Run) -> Iterator[None]:
    """The server does not run. What PostgreSQL sends in this time waits in the socket."""
    pid = run.environment.fleet.server_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def cut_off(run: Run) -> Iterator[None]:
    """Every packet between the server and PostgreSQL vanishes."""
    line = run.environment.model_server_postgres
    broken_before = line.broken
    with line.black_hole():
        yield
    run.require(line.broken > broken_before, "the server had no connection")


@contextmanager
def without_mlflow(run: Run) -> Iterator[None]:
    """PostgreSQL announces the move, and MLflow is unavailable."""
    with run.environment.mlflow.refusing(), _logged(run, "the champion cannot be checked"):
        yield


@contextmanager
def _logged(run: Run, event: str) -> Iterator[None]:
    """At the end of the block, wait until the server has logged an event once more than before."""
    log = run.environment.model_server.log
    before = log.read_text().count(event)
    yield
    logged = wait_until(lambda: log.read_text().count(event) > before, deadline_s=NOTICED_S)
    run.require(logged, f"the server did not log: {event}")


FAULTS = [
    Fault(
        kind,
        detail,
        partial(move_champion, fault=fault, seconds=seconds, allowed=allowed),
        runs=runs,
        served=True,
        short=kind == "kill -9, model server" and fault is killed,
        measures="served",
        unavailable=needs_linux if "black hole" in kind else Fault.unavailable,
    )
    for kind, detail, fault, seconds, allowed, runs in (
        ("kill -9, model server", "serving", killed, 0, {None, 503}, 2),
        ("kill -9, model server", "loading the champion", killed_while_loading, 0, {None, 503}, 2),
        ("frozen model server", "12 s", frozen, 12, {None}, 4),  # longer than a ping may take
        ("model server, black hole", "PostgreSQL, 15 s", cut_off, 15, set(), 4),
        ("model server, MLflow down", "15 s", without_mlflow, 15, set(), 4),
    )
]
