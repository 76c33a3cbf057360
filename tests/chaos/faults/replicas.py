"""Two and four replicas of each listener: they share the work, and one takes over when another dies."""

import os
import signal
from functools import partial

from breakpoints import Boundary
from runs import Fault, Run

from shared.events import Stage

TAKEOVER_S = 1.0
WEEKS = 6


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
