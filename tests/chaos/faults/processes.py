"""Listeners killed and stopped at every step, their children killed, frozen or short of memory.

Beside them, what the children come from: a fork server that is frozen or killed, and an emptied folder for temporary files.
"""

import os
import resource
import shutil
import signal
from functools import partial
from pathlib import Path

from breakpoints import ONLY_TRAINING, Boundary
from environment import STALL_TIMEOUT_S, needs_linux
from measure import wait_until
from runs import BOUND_S, Fault, Run

from shared.events import Stage

MEMORY_DEADLINE_S = 60
REPLACED_S = 45.0  # a new fork server imports all libraries anew


def kill_the_listener(run: Run, *, stage: Stage, boundary: Boundary):
    with run.breakpoint(stage, boundary) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        run.lose(*run.environment.backends(stage))
        os.kill(held.listener_pid, signal.SIGKILL)
        run.ended()
    yield


def stop_the_listener(run: Run, *, stage: Stage, boundary: Boundary):
    [replica] = run.environment.fleet.replicas(stage)
    ends_before = len(replica.exit_codes)
    with run.breakpoint(stage, boundary) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        run.lose(*run.environment.backends(stage))
        os.kill(held.listener_pid, signal.SIGTERM)
        run.ended()
    yield
    codes = replica.exit_codes[ends_before:]
    run.require(codes == [0], f"after SIGTERM the listener ended with {codes}")


def kill_the_child(run: Run, *, stage: Stage, boundary: Boundary):
    """As the kernel does when memory is short."""
    with run.breakpoint(stage, boundary) as breakpoint_:
        run.load()
        breakpoint_.wait().kill()
    run.ended()
    yield


def freeze_the_child(run: Run, *, stage: Stage, boundary: Boundary):
    """SIGSTOP: the process is there, and nobody but the clock can tell. The listener itself is well."""
    with run.breakpoint(stage, boundary) as breakpoint_:
        run.load()
        os.kill(breakpoint_.wait().pid, signal.SIGSTOP)
    run.ended()
    yield
    run.require_no_failure(stage)


def break_the_fork_server(run: Run, *, stage: Stage, number: signal.Signals):
    """While a child works, which goes on. The week after needs another child."""
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        fork_server_pid = int(Path(f"/proc/{held.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(fork_server_pid, number)
    run.load()
    run.ended()
    yield
    run.require_no_failure(stage)


def empty_the_temporary_folder(run: Run, *, stage: Stage, at_work: bool):
    """As a cleaner of TMPDIR does, which knows nothing of sockets and of files in use. The week after needs another child."""
    [replica] = run.environment.fleet.replicas(stage)
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        if at_work:
            run.load()
            breakpoint_.wait()
        for path in replica.scratch.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(2):
        run.load()
    run.ended()
    yield
    run.require_no_failure(stage)


def limit_the_childs_memory(run: Run, *, stage: Stage, headroom_bytes: int):
    """So much more for this attempt and nothing beyond; the next one has a process, and limits, of its own."""
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        batch_id = run.load()
        held = breakpoint_.wait()
        attempt = run.environment.attempt(batch_id, stage)
        size = int(Path(f"/proc/{held.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(held.pid, resource.RLIMIT_AS, (size + headroom_bytes,) * 2)
        held.release()
        over = wait_until(lambda: _is_over(run, batch_id, stage, attempt), deadline_s=MEMORY_DEADLINE_S)
        if not over:
            run.problems.append(f"after {MEMORY_DEADLINE_S} s the child still hangs")
            held.kill()
    run.ended()
    yield
    run.require(run.environment.attempt(batch_id, stage) > attempt, "the limit was not hit")


def _is_over(run: Run, batch_id: int, stage: Stage, attempt: int) -> bool:
    record = run.environment.record(batch_id, stage)
    return record["attempt"] != attempt or record["state"] != "running"


BOUNDARIES = {
    Stage.SNAPSHOT: [boundary for boundary in Boundary if boundary not in ONLY_TRAINING],
    Stage.TRAINING: list(Boundary),
}

FAULTS = [
    *(
        Fault(
            f"kill -9, {stage} listener",
            boundary,
            partial(kill_the_listener, stage=stage, boundary=boundary),
            runs=2,
        )
        for stage in Stage
        for boundary in BOUNDARIES[stage]
    ),
    *(
        Fault(
            f"SIGTERM, {stage} listener",
            boundary,
            partial(stop_the_listener, stage=stage, boundary=boundary),
            runs=1,
            short=(stage, boundary) == (Stage.TRAINING, Boundary.BEFORE_COMMIT),
        )
        for stage in Stage
        for boundary in BOUNDARIES[stage]
    ),
    *(
        Fault(
            "kill -9 of the child",
            f"{stage}, {boundary}",
            partial(kill_the_child, stage=stage, boundary=boundary),
            runs=3,
            measures="done",
            short=(stage, boundary) == (Stage.TRAINING, Boundary.LOGGED),
        )
        for stage in Stage
        for boundary in (Boundary.BUILDING, Boundary.LOGGED)
    ),
    *(
        Fault(
            "frozen child",
            f"{stage}, {boundary}",
            partial(freeze_the_child, stage=stage, boundary=boundary),
            runs=2,
            bound_s=STALL_TIMEOUT_S + BOUND_S,
            measures="done",
        )
        for stage in Stage
        for boundary in (Boundary.BUILDING, Boundary.LOGGED)
    ),
    *(
        Fault(
            f"{what} fork server",
            f"{stage} at work",
            partial(break_the_fork_server, stage=stage, number=number),
            runs=2,
            bound_s=REPLACED_S,
            measures="done",
            unavailable=needs_linux,
        )
        for what, number in (("frozen", signal.SIGSTOP), ("killed", signal.SIGKILL))
        for stage in Stage
    ),
    *(
        Fault(
            "emptied TMPDIR",
            f"{stage} {'at work' if at_work else 'waiting'}",
            partial(empty_the_temporary_folder, stage=stage, at_work=at_work),
            runs=2,
            bound_s=REPLACED_S,
            measures="done",
        )
        for stage in Stage
        for at_work in (False, True)
    ),
    *(
        Fault(
            "memory limit hit",
            f"{stage}, {headroom} MB more",
            partial(limit_the_childs_memory, stage=stage, headroom_bytes=headroom * 2**20),
            runs=2,
            short=(stage, headroom) == (Stage.TRAINING, 64),
            measures="done",
            unavailable=needs_linux,
        )
        # A library aborts for want of 16 MB; for want of an array or a thread of 64 MB Python raises MemoryError.
        for stage, headroom in ((Stage.SNAPSHOT, 0), (Stage.TRAINING, 16), (Stage.TRAINING, 64))
    ),
]
