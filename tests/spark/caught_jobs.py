"""What all faults of Spark have: a week whose job is caught in the middle of a task, and bounds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from breakpoints import Boundary
from environment import needs_linux
from measure import wait_until
from runs import Fault, Run
from spark_cluster import Node, SparkCluster

from shared.events import Stage

BOUND_S, DEADLINE_S = 240.0, 420.0
COMPLAINT_S = 180
# So many of Spark's stages are over before the fault. The snapshot has about 25 in all; most of the training's are iterations.
EARLY, MIDDLE = 0, {Stage.SNAPSHOT: 10, Stage.TRAINING: 20}


@contextmanager
def caught(run: Run, stage: Stage, after_stages: int, program: str = "java") -> Iterator[Node]:
    """Load a week, and catch a worker in the middle of a task of its dataset or model."""
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        breakpoint_.wait(DEADLINE_S).release()  # if the stage before works on Spark, too, this takes minutes
        with cluster_of(run).caught_at_work(
            application=f"({stage})", after_stages=after_stages, program=program
        ) as node:
            yield node


def cluster_of(run: Run) -> SparkCluster:
    return run.environment.spark.cluster


def wait_for_complaint(run: Run, batch_id: int, stage: Stage, error: str) -> None:
    said = lambda: error in (run.environment.record(batch_id, stage).get("error") or "")  # noqa: E731
    if wait_until(said, deadline_s=COMPLAINT_S) is None:
        run.problems.append(f"no attempt said {error!r}: {run.environment.record(batch_id, stage)}")


def fault(kind: str, detail: str, inject: Callable, stage: Stage, **more) -> Fault:
    """A fault of a job of this stage; the other stage works in its own process."""
    given = {"runs": 1, "bound_s": BOUND_S, "measures": "done", "spark": (stage,), "deadline_s": DEADLINE_S}
    return Fault(f"Spark: {kind}", detail, inject, **given | {"unavailable": needs_linux} | more)
