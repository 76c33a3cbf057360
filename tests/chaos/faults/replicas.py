"""Two and four replicas of each listener: they share the work, and one takes over when another dies or stalls."""

import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import invariants
from breakpoints import Boundary
from environment import needs_linux
from measure import is_done, wait_until
from runs import Fault, Run

from shared.events import Stage

TAKEOVER_S = 1.0
STALL_S = 60
WEEKS = 6
# the sessions that hold the locks on the batch and on the champion's alias
_LOCKS_OF_TRAINING = """
    select pg_locks.pid
    from pg_locks join pg_stat_activity using (pid)
    where locktype = 'advisory' and granted and datname = current_database() and (
        classid::bigint = stage_lock_class('training') and objid::bigint = %s or application_name = 'rakuten champion'
    )
"""


def kill_the_one_that_works(run: Run, *, stage: Stage):
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        batch_id = run.load()
        held = breakpoint_.wait()
        worker = environment.record(batch_id, stage)["worker"]
        os.kill(held.listener_pid, signal.SIGKILL)
        run.ended()
        run.measure_until(lambda: environment.record(batch_id, stage)["worker"] != worker)
    yield
    run.require(environment.attempt(batch_id, stage) == 2, "it took more than one further attempt")


def stall_before_registering(run: Run):
    """One asks for its claim, stalls and loses its connections; another does all of it; then the first goes on."""
    environment = run.environment
    with run.breakpoint(Stage.TRAINING, Boundary.REGISTERING) as breakpoint_:
        batch_id = run.load()
        held = breakpoint_.wait()
        os.kill(held.listener_pid, signal.SIGSTOP)  # or it would end its child when it finds its claim lost
        try:
            for row in environment.query(_LOCKS_OF_TRAINING, batch_id):
                environment.terminate(row["pid"])
            done = wait_until(lambda: is_done(environment, [batch_id]), deadline_s=STALL_S)
            run.require(done, "no other replica did the work")
            held.release()
            over = wait_until(lambda: _has_ended(held.pid), deadline_s=STALL_S)
            run.require(over, "the stalled child does not end")
        finally:
            os.kill(held.listener_pid, signal.SIGCONT)
    run.ended()
    yield
    moves = Counter(move["to_version"] for move in invariants.champion_moves(environment))
    version = environment.record(batch_id, Stage.TRAINING)["result"]["model_version"]
    run.require(moves[version] <= 1, f"version {version} became champion {moves[version]} times")


def _has_ended(pid: int) -> bool:
    """A child whose parent is stopped stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def share(run: Run, *, weeks: int):
    """Several weeks at once: each stage of each batch is worked on once, by whomever."""
    environment = run.environment
    batch_ids = [run.load() for _ in range(weeks)]
    run.ended()
    yield
    records = [environment.record(batch_id, stage) for batch_id in batch_ids for stage in Stage]
    run.require(
        [record["attempt"] for record in records] == [1] * len(records), "a batch was worked on twice"
    )
    run.require(len({record["worker"] for record in records}) > len(Stage), "one replica did it all")


FAULTS = [
    fault
    for replicas in (2, 4)
    for fault in (
        Fault(
            f"{WEEKS} weeks at once, {replicas} replicas",
            "",
            partial(share, weeks=WEEKS),
            runs=1,
            replicas=replicas,
        ),
        *(
            Fault(
                f"kill -9 of one of {replicas}",
                f"{stage} at work",
                partial(kill_the_one_that_works, stage=stage),
                runs=4,
                bound_s=TAKEOVER_S,
                replicas=replicas,
                short=replicas == 2 and stage == Stage.SNAPSHOT,
                measures="takeover",
            )
            for stage in Stage
        ),
    )
]
FAULTS.append(
    Fault(
        "stalled registration",
        "",
        stall_before_registering,
        runs=4,
        replicas=2,
        short=True,
        measures="done",
        unavailable=needs_linux,
    )
)
