"""A handler that does what a file says: the stage's worker and its child are real, only the work is not."""

import os
import signal
import time
from pathlib import Path

from psycopg.types.json import Jsonb

from db.connect import connect
from shared.errors import StageError


def script_of(settings) -> Path:
    return settings.state_path / "script"


def handle(job):
    (job.settings.state_path / f"{job.stage}-{job.batch.id}-{job.attempt}.started").touch()
    for step in script_of(job.settings).read_text().split():
        if step == "fail":
            raise StageError("the script says so")
        if step == "outage":
            raise ConnectionRefusedError("nobody answers")
        if step == "lose":  # somebody else has done it meanwhile
            with connect(job.conninfo, "test", autocommit=True) as connection:
                statement = "select finish_stage(%s, %s, %s, %s)"
                connection.execute(statement, [job.batch.id, job.stage, job.attempt, Jsonb({"run_id": "r"})])
        if step == "crash":
            raise ZeroDivisionError("a defect")
        if step == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if step == "hang":
            while True:
                time.sleep(0.05)
        if step == "fence":
            job.require_claim()
    return {"run_id": f"run-{job.batch.id}-{job.attempt}"}
