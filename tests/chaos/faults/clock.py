"""The clock of PostgreSQL and of the listeners set back by an hour while they work."""

from functools import partial

import fake_clock
from breakpoints import Boundary
from runs import Fault, Run

from shared.events import Stage

HOUR_S = 3600


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
