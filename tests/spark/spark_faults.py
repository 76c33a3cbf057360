"""Faults of a Spark cluster, of what it reads, and of where it writes, each in the middle of a stage's work."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg
from breakpoints import Boundary
from environment import Environment, needs_linux
from measure import is_done, wait_until
from runs import Fault, Run
from spark_cluster import Node, SparkCluster
from spark_environment import SparkParts

from shared.events import Stage

BOUND_S, DEADLINE_S = 240.0, 420.0
COMPLAINT_S = 180
STRAGGLING_S = 6
# So many of Spark's stages are over before the fault. The snapshot has about 25 in all; most of the training's are iterations.
EARLY, MIDDLE = 0, {Stage.SNAPSHOT: 10, Stage.TRAINING: 20}
_TASK = "rakuten snapshot task"


@contextmanager
def caught(run: Run, stage: Stage, after_stages: int) -> Iterator[Node]:
    """Load a week, and catch a worker in the middle of a task of its dataset or model."""
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        breakpoint_.wait().release()
        with cluster_of(run).caught_at_work(application=f"({stage})", after_stages=after_stages) as node:
            yield node


def cluster_of(run: Run) -> SparkCluster:
    return run.environment.spark.cluster


def kill_a_worker(run: Run, *, stage: Stage, after_stages: int):
    """The machine of one of two workers is lost, with its executor, and the blocks and shuffle files of this executor."""
    with caught(run, stage, after_stages) as node:
        node.kill()
    run.ended()
    yield
    run.require_no_failure(stage)


def kill_an_executor(run: Run, *, stage: Stage, which: str):
    """As the kernel does when memory is short: it takes Java, or the Python beside it."""
    with caught(run, stage, MIDDLE[stage]) as node:
        victims = [pid for pid in node.executors if _program(pid) == which]
        run.require(victims, f"the executor has no process {which}")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
    run.ended()
    yield
    run.require_no_failure(stage)


def limit_an_executors_memory(run: Run, *, stage: Stage):
    """Not a byte more for the processes of one executor. Those that take their place have no limit."""
    with caught(run, stage, EARLY) as node:
        limited = node.executors
        for pid in limited:
            resource.prlimit(pid, resource.RLIMIT_DATA, (_data_bytes(pid),) * 2)
    run.require(
        wait_until(lambda: set(limited) - set(node.executors), deadline_s=COMPLAINT_S),
        "the limit was not hit",
    )
    run.ended()
    yield


def kill_the_driver(run: Run, *, stage: Stage, java: bool):
    """Kill the listener's child, or its Java. Nothing of the dead job stays: no process, no executor, no temporary file."""
    [replica] = run.environment.fleet.replicas(stage)
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        held.release()
        with cluster_of(run).caught_at_work(application=f"({stage})", after_stages=MIDDLE[stage]):
            family = _descendants(held.pid)
            [driver] = [pid for pid in family if _program(pid) == "java"]
            [job] = cluster_of(run).applications()
        os.kill(driver if java else held.pid, signal.SIGKILL)
    run.ended()
    gone = wait_until(lambda: not any(map(_is_alive, family)), deadline_s=COMPLAINT_S)
    run.require(gone, "processes of the dead driver still run")
    still = lambda: [each for each in cluster_of(run).applications() if each["id"] == job["id"]]  # noqa: E731
    run.require(wait_until(lambda: not still(), deadline_s=COMPLAINT_S), "the cluster still has the dead job")
    yield
    if not java:  # a killed Java removes nothing; its container or its machine does
        left = [
            path.name for path in replica.scratch.iterdir() if path.name.startswith(("blockmgr", "spark"))
        ]
        run.require(not left, f"temporary files of Spark are left: {left}")


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
    _wait_for_complaint(run, batch_id, stage, "does not start")
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
    _wait_for_complaint(run, batch_id, stage, "no executor")
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
        frozen = {pid for pid in node.executors if _program(pid) == "java"}
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


def break_the_store(
    run: Run, *, stage: Stage, how: Callable[[SparkParts], AbstractContextManager], error: str
):
    """DATASET_STORE fails while a job works, until an attempt has said so, and comes back."""
    _require_earlier_dataset(run)
    with caught(run, stage, MIDDLE[stage]) as node, how(run.environment.spark):
        batch_id = run.batch_ids[-1]
        node.signal(signal.SIGCONT)
        _wait_for_complaint(run, batch_id, stage, error)
    run.ended()
    yield
    run.require_no_failure(stage)


def _require_earlier_dataset(run: Run) -> None:
    """Only a store that has had a dataset can be known to be missing: a first one may go into an empty folder."""
    uri = "metadata #>> '{snapshot,result,dataset_uri}'"
    if not run.environment.query(f"select id from data_loads where {uri} is not null"):
        run.load()
        assert wait_until(lambda: is_done(run.environment, run.batch_ids), deadline_s=DEADLINE_S)


@contextmanager
def full_store(spark: SparkParts) -> Iterator[None]:
    """DATASET_STORE has no byte left."""
    ballast = spark.store / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        ballast.unlink()


def restart_postgresql(run: Run, *, number: signal.Signals):
    """PostgreSQL ends while a task reads a partition, and is started again."""
    environment = run.environment
    with run.breakpoint(Stage.SNAPSHOT, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        with closing(psycopg.connect(environment.observer_conninfo())) as blocker:
            held.release()
            assert wait_until(lambda: cluster_of(run).runs("(snapshot)")), "no job begins"
            blocker.execute("lock table labels_history in access exclusive mode")
            waiting = lambda: _reading(environment)  # noqa: E731
            run.require(wait_until(waiting, deadline_s=COMPLAINT_S), "no task reads a partition")
            with environment.postgres.refusing():
                run.lose(*environment.backends(Stage.SNAPSHOT), *environment.backends(Stage.TRAINING))
                environment.end_postgres(number)
                environment.start_postgres()
    run.ended()
    yield
    run.require_no_failure(Stage.SNAPSHOT)


def _reading(environment: Environment) -> list[dict]:
    return environment.query(
        "select pid from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'", _TASK
    )


def _wait_for_complaint(run: Run, batch_id: int, stage: Stage, error: str) -> None:
    said = lambda: error in (run.environment.record(batch_id, stage).get("error") or "")  # noqa: E731
    if wait_until(said, deadline_s=COMPLAINT_S) is None:
        run.problems.append(f"no attempt said {error!r}: {run.environment.record(batch_id, stage)}")


def _program(pid: int) -> str:
    """`java`, or `python` in any version."""
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    return "python" if name.startswith("python") else name


def _data_bytes(pid: int) -> int:
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmData")
    ]
    return int(line.split()[1]) * 1024


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _descendants(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def no_small_disk(environment: Environment) -> str | None:
    return None if environment.spark.store_is_limited else "may not mount a small disk"


def fault(kind: str, detail: str, inject: Callable, stage: Stage, **more) -> Fault:
    """A fault of a job of this stage; the other stage works in its own process."""
    given = {"runs": 1, "bound_s": BOUND_S, "measures": "done", "spark": (stage,), "deadline_s": DEADLINE_S}
    return Fault(f"Spark: {kind}", detail, inject, **given | {"unavailable": needs_linux} | more)


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
    fault(
        "DATASET_STORE full",
        "",
        partial(break_the_store, stage=Stage.SNAPSHOT, how=full_store, error="No space left"),
        Stage.SNAPSHOT,
        unavailable=no_small_disk,
    ),
    *(
        fault(
            "DATASET_STORE gone",
            f"{what} while the snapshot works",
            partial(break_the_store, stage=Stage.SNAPSHOT, how=how, error="is missing"),
            Stage.SNAPSHOT,
            unavailable=no_small_disk,
        )
        for what, how in (
            ("unmounted", SparkParts.unmounted_store),
            ("its folder moved away", SparkParts.missing_store),
        )
    ),
    *(
        fault(
            "PostgreSQL restarted while partitions are read",
            number.name,
            partial(restart_postgresql, number=number),
            Stage.SNAPSHOT,
        )
        for number in (signal.SIGINT, signal.SIGQUIT)
    ),
]
