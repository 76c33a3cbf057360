"""MLflow away, slow, broken, cut off in the middle of an upload."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from breakpoints import Boundary
from environment import Environment, needs_linux
from measure import is_done, wait_until
from mlflow import MlflowClient
from runs import Fault, Run

from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT

MET_DEADLINE_S = 60


def kill_the_server(run: Run, *, stage: Stage):
    """kill -9, and a start, which takes as long as it takes."""
    environment = run.environment
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        environment.mlflow_server.kill()
        held.release()
        environment.mlflow_server.start()
    run.ended()
    yield


def outage(
    run: Run,
    *,
    stage: Stage,
    fault: Callable[[Environment], AbstractContextManager[None]],
    seconds: float,
):
    """The fault lasts from the middle of the work for `seconds`, and until it has met something."""
    environment = run.environment
    broken_before = environment.mlflow.broken
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        with fault(environment):
            held.release()
            time.sleep(seconds)
            met = wait_until(lambda: environment.mlflow.broken > broken_before, deadline_s=MET_DEADLINE_S)
    run.require(met, "the fault met no connection")
    run.ended()
    yield


def slow(run: Run, *, delay_s: float, seconds: float):
    environment = run.environment
    with environment.mlflow.slow(delay_s, bytes_per_s=100_000):
        run.load()
        wait_until(lambda: is_done(environment, run.batch_ids), deadline_s=seconds)
    run.ended()
    yield


def delete_the_experiment(run: Run, *, stage: Stage, seconds: float):
    """Somebody deletes the experiment in MLflow's pages while a stage works, and restores it."""
    environment = run.environment
    address = f"http://127.0.0.1:{environment.mlflow_server.port}"  # past the proxy
    client = MlflowClient(address, address)
    experiment = client.get_experiment_by_name(EXPERIMENT_OF[stage])
    with run.breakpoint(stage, Boundary.BUILDING) as breakpoint_:
        run.load()
        held = breakpoint_.wait()
        client.delete_experiment(experiment.experiment_id)
        held.release()
        time.sleep(seconds)
        client.restore_experiment(experiment.experiment_id)
    run.ended()
    yield


EXPERIMENT_OF = {Stage.SNAPSHOT: DATASET_EXPERIMENT, Stage.TRAINING: MODEL_EXPERIMENT}
OUTAGES = {
    "down, 10 s": (lambda environment: environment.mlflow.refusing(), 10, 2),
    "down, 2 min": (lambda environment: environment.mlflow.refusing(), 120, 1),
    "answers 500, 10 s": (lambda environment: environment.mlflow.answering(), 10, 3),
    "one of two servers dead, 20 s": (lambda environment: environment.mlflow.half_dead(), 20, 2),
    "cut mid-upload": (lambda environment: environment.mlflow.cutting(3_000), 0, 4),
    "black hole, 15 s": (lambda environment: environment.mlflow.black_hole(), 15, 1),
}

FAULTS = [
    *(
        Fault(
            "MLflow's experiment deleted",
            f"{stage} at work, 3 s",
            partial(delete_the_experiment, stage=stage, seconds=3),
            runs=3,
            bound_s=60,  # a person mends it, so the pauses between attempts grow to a minute
            measures="done",
        )
        for stage in Stage
    ),
    *(
        Fault(
            "MLflow killed",
            f"{stage} at work",
            partial(kill_the_server, stage=stage),
            runs=2,
            measures="done",
        )
        for stage in Stage
    ),
    *(
        Fault(
            f"MLflow {what}",
            f"{stage} at work",
            partial(outage, stage=stage, fault=fault, seconds=seconds),
            runs=runs,
            short=(what, stage) == ("cut mid-upload", Stage.SNAPSHOT),
            measures="done",
            unavailable=needs_linux if "black hole" in what else Fault.unavailable,
        )
        for what, (fault, seconds, runs) in OUTAGES.items()
        for stage in Stage
    ),
    Fault("MLflow slow", "", partial(slow, delay_s=0.3, seconds=30), runs=2, measures="done"),
]
