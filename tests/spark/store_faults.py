"""What a job reads and writes fails in the middle of its work: PostgreSQL, and DATASET_STORE."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial

import psycopg
from breakpoints import Boundary
from caught_jobs import COMPLAINT_S, DEADLINE_S, MIDDLE, caught, cluster_of, fault, wait_for_complaint
from environment import Environment
from measure import is_done, wait_until
from runs import Run
from spark_environment import SparkParts

from shared.events import Stage

_TASK = "rakuten snapshot task"


def break_the_store(
    run: Run, *, stage: Stage, how: Callable[[SparkParts], AbstractContextManager], error: str
):
    """DATASET_STORE fails while a job works, until an attempt has said so, and comes back."""
    _require_earlier_dataset(run)
    with caught(run, stage, MIDDLE[stage]) as node, how(run.environment.spark):
        batch_id = run.batch_ids[-1]
        node.signal(signal.SIGCONT)
        wait_for_complaint(run, batch_id, stage, error)
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


def no_small_disk(environment: Environment) -> str | None:
    return None if environment.spark.store_is_limited else "may not mount a small disk"


FAULTS = [
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
