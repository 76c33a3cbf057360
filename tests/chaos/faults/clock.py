"""The clock of PostgreSQL and of the listeners set back by an hour while they work, or a day ahead while a week is loaded."""

from functools import partial

import fake_clock
import invariants
from breakpoints import Boundary
from measure import is_done, wait_until
from runs import Fault, Run

from shared.events import Stage

HOUR_S = 3600
DAY_S = 24 * HOUR_S


def set_back(run: Run, *, stage: Stage, boundary: Boundary, fail: bool = False):
    """With `fail` the attempt fails first, so that the clock is set back while the batch waits for its next one."""
    environment = run.environment
    with run.breakpoint(stage, boundary) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        if fail:
            held.kill()
        environment.set_clock(environment.clock_offset_s - HOUR_S)
        seen_s = environment.seen_clock_offset_s()
        run.require(abs(seen_s - environment.clock_offset_s) < 1, f"PostgreSQL is {seen_s:.0f} s ahead")
    run.ended()
    yield


def ahead_at_promotion(run: Run):
    """A week is stamped a day ahead and gets its model; then the clock is right again, and the next week comes."""
    environment = run.environment
    environment.set_clock(environment.clock_offset_s + DAY_S)
    first = run.load()
    done = wait_until(lambda: is_done(environment, [first]))
    run.require(done, "the week of the wrong clock was not done")
    environment.set_clock(environment.clock_offset_s - DAY_S)
    run.load()
    run.ended()
    yield
    reason = invariants.promotion_verdict(environment, run.batch_ids[-1])["reason"]
    run.require("later batch" not in reason, f"the clock kept a model out: {reason}")


def _no_fake_clock(_environment) -> str | None:
    return None if fake_clock.find_library() else "libfaketime is not installed"


FAULTS = [
    Fault(
        "clock set back by an hour",
        detail,
        partial(set_back, stage=stage, boundary=boundary, fail=fail),
        runs=1,
        faked_clock=True,
        measures="done",
        unavailable=_no_fake_clock,
    )
    for detail, stage, boundary, fail in (
        ("before the claim", Stage.SNAPSHOT, Boundary.BEFORE_CLAIM, False),
        ("training at work", Stage.TRAINING, Boundary.BUILDING, False),
        ("before the next attempt", Stage.TRAINING, Boundary.BUILDING, True),
    )
]
FAULTS.append(
    Fault(
        "wrong clock at promotion",
        "a day ahead",
        ahead_at_promotion,
        runs=3,
        faked_clock=True,
        measures="done",
        unavailable=_no_fake_clock,
    )
)
