"""Processes of the cluster and the driver killed, frozen and short of memory, in the middle of a stage's work."""

import os
import resource
import signal
from functools import partial

from breakpoints import Boundary
from caught_jobs import COMPLAINT_S, DEADLINE_S, EARLY, MIDDLE, caught, cluster_of, fault, wait_for_complaint
from measure import wait_until
from process_table import data_bytes, descendants, is_alive, program_of
from runs import Run

from shared.events import Stage

STRAGGLING_S = 6


def kill_a_worker(run: Run, *, stage: Stage, after_stages: int):
    """The machine of one of two workers is lost, with its executor, and the blocks and shuffle files of this executor."""
    with caught(run, stage, after_stages) as node:
        node.kill()
    run.ended()
    yield
    run.require_no_failure(stage)


def kill_an_executor(run: Run, *, stage: Stage, which: str):
    """As the kernel does when memory is short: it takes Java, or the Python beside it."""
    with caught(run, stage, EARLY, which) as node:
        for pid in node.executors:
            if program_of(pid) == which:
                os.kill(pid, signal.SIGKILL)
    run.ended()
    yield
    run.require_no_failure(stage)


def limit_an_executors_memory(run: Run, *, stage: Stage):
    """Not a byte more for the processes of one executor. Those that take their place have no limit."""
    with caught(run, stage, EARLY) as node:
        limited = node.executors
        for pid in limited:
            resource.prlimit(pid, resource.RLIMIT_DATA, (data_bytes(pid),) * 2)
    run.require(
        wait_until(lambda: set(limited) - set(node.executors), deadline_s=COMPLAINT_S),
        "the limit was not hit",
    )
    run.ended()
    yield


def kill_the_driver(run: Run, *, stage: Stage, java: bool):
    """Kill the listener's child, or its Java. Nothing of the dead job stays: no process, no executor, no temporary file."""
    before = set(cluster_of(run).driver_files.iterdir())
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        held.release()
        with cluster_of(run).caught_at_work(application=f"({stage})", after_stages=MIDDLE[stage]):
            family = descendants(held.pid)
            [driver] = [pid for pid in family if program_of(pid) == "java"]
            [job] = cluster_of(run).applications()
        os.kill(driver if java else held.pid, signal.SIGKILL)
    run.ended()
    gone = wait_until(lambda: not any(map(is_alive, family)), deadline_s=COMPLAINT_S)
    run.require(gone, "processes of the dead driver still run")
    still = lambda: [each for each in cluster_of(run).applications() if each["id"] == job["id"]]  # noqa: E731
    run.require(wait_until(lambda: not still(), deadline_s=COMPLAINT_S), "the cluster still has the dead job")
    yield
    if not java:  # a killed Java removes nothing; its container or its machine does
        left = lambda: set(cluster_of(run).driver_files.iterdir()) - before  # noqa: E731
        run.require(wait_until(lambda: not left(), deadline_s=COMPLAINT_S), f"temporary files: {left()}")


def kill_the_master(run: Run, *, stage: Stage, recovery: str):
    """In the middle of a job. It is back after a few seconds, and has what it knew in its files, or has forgotten it.

    A master that does not know the job ends its executors, and never gives it others.
    """
    cluster_of(run).configure(deploy__recoveryMode=recovery)
    with caught(run, stage, MIDDLE[stage]):
        cluster_of(run).kill_master()
    cluster_of(run).start_master()
    run.ended()
    yield
    run.require_no_failure(stage)


def start_without_a_master(run: Run, *, stage: Stage):
    """A job begins while the master is gone."""
    cluster_of(run).kill_master()
    batch_id = run.load()
    wait_for_complaint(run, batch_id, stage, "does not start")
    cluster_of(run).start_master()
    run.ended()
    yield
    run.require_no_failure(stage)


def kill_all_workers(run: Run, *, stage: Stage):
    """A job has no executor. It waits for STALL_TIMEOUT_S, and then counts as an outage."""
    with caught(run, stage, EARLY):
        [batch_id] = run.batch_ids
        for worker in cluster_of(run).workers:
            worker.kill()
    wait_for_complaint(run, batch_id, stage, "no executor")
    cluster_of(run).mend()
    run.ended()
    yield
    run.require_no_failure(stage)


def freeze_an_executor(run: Run, *, stage: Stage, speculation: bool, for_ever: bool):
    """A straggler: one executor stands still in the middle of a task, for a while or for ever."""
    cluster_of(run).configure(
        speculation=str(speculation).lower(), speculation__task__duration__threshold="2s"
    )
    with caught(run, stage, MIDDLE[stage]) as node:
        frozen = {pid for pid in node.executors if program_of(pid) == "java"}
        if for_ever:
            run.ended()
            ended = wait_until(lambda: not frozen & set(node.executors), deadline_s=DEADLINE_S)
            run.require(ended, "the frozen executor is still there")
            yield
        else:
            wait_until(lambda: False, deadline_s=STRAGGLING_S)
    if not for_ever:
        run.ended()
        yield
    run.require_no_failure(stage)


FAULTS = [
    *(
        fault(
            "kill -9 of one of two workers",
            f"{stage}, after {stages} of its stages",
            partial(kill_a_worker, stage=stage, after_stages=stages),
            stage,
            short=stages != EARLY,
        )
        for stage in Stage
        for stages in (EARLY, MIDDLE[stage])
    ),
    *(
        fault(
            "kill -9 of the driver",
            f"{stage}, {'its Java' if java else 'the child'}",
            partial(kill_the_driver, stage=stage, java=java),
            stage,
        )
        for stage in Stage
        for java in (False, True)
    ),
    *(
        fault(
            "master killed and back",
            f"{stage}, {'with' if recovery == 'FILESYSTEM' else 'without'} its files",
            partial(kill_the_master, stage=stage, recovery=recovery),
            stage,
        )
        for stage, recovery in (
            (Stage.SNAPSHOT, "FILESYSTEM"),
            (Stage.TRAINING, "FILESYSTEM"),
            (Stage.SNAPSHOT, "NONE"),
        )
    ),
    fault(
        "no master at the start",
        Stage.SNAPSHOT,
        partial(start_without_a_master, stage=Stage.SNAPSHOT),
        Stage.SNAPSHOT,
    ),
    fault("no worker left", Stage.SNAPSHOT, partial(kill_all_workers, stage=Stage.SNAPSHOT), Stage.SNAPSHOT),
    *(
        fault(
            "executor killed for its memory",
            f"{stage}, {which}",
            partial(kill_an_executor, stage=stage, which=which),
            stage,
        )
        for stage in Stage
        for which in ("java", "python")
    ),
    *(
        fault("executor out of memory", stage, partial(limit_an_executors_memory, stage=stage), stage)
        for stage in Stage
    ),
    *(
        fault(
            "straggler",
            f"{stage}, speculation {'on' if speculation else 'off'}, {STRAGGLING_S} s",
            partial(freeze_an_executor, stage=stage, speculation=speculation, for_ever=False),
            stage,
        )
        for stage in Stage
        for speculation in (False, True)
    ),
    *(
        fault(
            "frozen executor",
            f"{stage}, speculation {'on' if speculation else 'off'}",
            partial(freeze_an_executor, stage=stage, speculation=speculation, for_ever=True),
            stage,
        )
        for stage in Stage
        for speculation in (False, True)
    ),
]
