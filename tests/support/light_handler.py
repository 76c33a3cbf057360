"""A stage's work without its weight: a real run in a real MLflow, published as the real handlers do it, with nothing in it.

A file in `faults/` of the state directory makes one attempt go wrong in the way that its name says, and is consumed by it.
"""

import os
import signal
import time
from contextlib import suppress

from listeners.tracking.runs import Tracking
from shared.events import Stage
from shared.mlflow_names import DATASET_EXPERIMENT, MODEL_EXPERIMENT, Tag, dataset_name, model_run_name

FAULTS = ("fail", "crash", "outage", "die", "stall before", "stall inside", "stall after")


def handle(job):
    fault = next_fault(job)
    if fault == "stall before":
        stall(job)
    experiment, name = {
        Stage.SNAPSHOT: (DATASET_EXPERIMENT, dataset_name(job.batch.name)),
        Stage.TRAINING: (MODEL_EXPERIMENT, model_run_name(job.batch.name)),
    }[job.stage]
    tags = job.batch.mlflow_tags
    tracking = Tracking(job.settings)
    run = tracking.finished_run(experiment, name, **tags)
    if run is not None:
        return {"run_id": run.info.run_id, "adopted": True}
    attempt = {Tag.ATTEMPT: str(job.attempt)}
    with tracking.publishing(experiment, name, attempt, job.require_claim, **tags) as publication:
        if fault == "fail":
            raise ValueError("this attempt is to fail")
        if fault == "crash":
            os._exit(3)
        if fault == "outage":
            raise ConnectionRefusedError("nobody answers")
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "stall inside":
            stall(job)
        publication.values(metrics={"rows": 1.0})
    if fault == "stall after":
        stall(job)
    return {"run_id": publication.run_id}


def stall(job):
    """Until the test lets it go on, or kills it."""
    marker = job.settings.state_path / "stalled" / f"{job.stage}-{job.batch.id}-{job.attempt}"
    marker.touch()
    while marker.exists():
        time.sleep(0.01)


def next_fault(job):
    for fault in FAULTS:
        with suppress(FileNotFoundError):
            (job.settings.state_path / "faults" / f"{job.stage} {fault}").unlink()
            return fault
    return None
