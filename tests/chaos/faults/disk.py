"""The disk of the temporary files full, read-only or broken while a stage works, and for a while after."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

from breakpoints import Boundary
from environment import Environment
from measure import wait_until
from runs import Fault, Run

from shared.events import Stage

DEADLINE_S = 30


def make_it_unusable(
    run: Run,
    *,
    stage: Stage,
    how: Callable[[Environment], AbstractContextManager],
    error: str,
    seconds: float,
):
    """The stage cannot use the disk of its temporary files while it builds, and for a while after."""
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        batch_id = run.load()
        held = breakpoint_.wait()
        with how(run.environment):
            held.release()
            complained = wait_until(lambda: _says(run, batch_id, stage, error), deadline_s=DEADLINE_S)
            run.require(complained, f"no attempt ended with {error}")
            time.sleep(seconds)
    run.ended()
    yield
    run.require_no_failure(stage)


def _says(run: Run, batch_id: int, stage: Stage, reason: str) -> bool:
    return reason in (run.environment.record(batch_id, stage).get("error") or "")


def fill_the_disk(run: Run, *, seconds: float):
    """The disk of the snapshot's temporary files is full while it builds, and for a while after."""
    environment = run.environment
    ballast = environment.scratch / "ballast"
    with run.breakpoint(Stage.SNAPSHOT, Boundary.BUILDING) as breakpoint_:
        batch_id = run.load()
        held = breakpoint_.wait()
        try:
            _fill(ballast)
            held.release()
            complained = wait_until(lambda: _no_space(run, batch_id, ballast), deadline_s=DEADLINE_S)
            run.require(complained, "the full disk was not noticed")
            wait_until(lambda: _fill(ballast), deadline_s=seconds)  # and it stays full
        finally:
            ballast.unlink()
    run.ended()
    yield


def _no_space(run: Run, batch_id: int, ballast: Path) -> bool:
    _fill(ballast)
    return _says(run, batch_id, Stage.SNAPSHOT, "No space left")


def _fill(ballast: Path) -> None:
    """Take what is left of the disk, also what a failed attempt has given back."""
    with ballast.open("ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


def _no_small_disk(environment: Environment) -> str | None:
    return None if environment.scratch_is_limited else "may not mount a small disk"


FAULTS = [
    Fault(
        "disk full",
        "",
        partial(fill_the_disk, seconds=5),
        runs=4,
        short=True,
        measures="done",
        unavailable=_no_small_disk,
    ),
    *(
        Fault(
            "disk read-only",
            f"{stage} at work, 5 s",
            partial(
                make_it_unusable, stage=stage, how=Environment.read_only_scratch, error="Read-only", seconds=5
            ),
            runs=2,
            short=stage == Stage.SNAPSHOT,
            measures="done",
            unavailable=_no_small_disk,
        )
        for stage in Stage
    ),
    *(
        Fault(
            "disk broken",
            f"{stage} at work, 5 s",
            partial(
                make_it_unusable,
                stage=stage,
                how=Environment.broken_files,
                error="Input/output error",
                seconds=5,
            ),
            runs=2,
            measures="done",
        )
        for stage in Stage
    ),
]
