"""A handler that does what a file says: the stage's worker and its child are real, only the work is not."""

import hashlib
import os
import signal
import socket
import time
from pathlib import Path

from psycopg.types.json import Jsonb

from db.connect import connect
from shared.errors import StageError

COMPUTE_S = 5.0
DETAILS = {"rows": 1, "classes": {"10": 1}, "drift": [{"feature": "language"}]}


def script_of(settings) -> Path:
    return settings.state_path / "script"


def fail(_job):
    raise StageError("the script says so")


def outage(_job):
    raise ConnectionRefusedError("nobody answers")


def lose(job):
    """Somebody else has done it meanwhile."""
    with connect(job.conninfo, "test", autocommit=True) as connection:
        statement = "select finish_stage(%s, %s, %s, %s)"
        connection.execute(statement, [job.batch.id, job.stage, job.attempt, Jsonb({"run_id": "r"})])


def crash(_job):
    raise ZeroDivisionError("a defect")


def die(_job):
    os.kill(os.getpid(), signal.SIGKILL)


def freeze(_job):
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(job):
    while "hang" in script_of(job.settings).read_text():
        time.sleep(0.05)


def wait(_job):
    """For somebody who accepts and never answers."""
    ours, _theirs = socket.socketpair()
    ours.recv(1)


def compute(_job):
    """In C, which releases the interpreter lock."""
    until = time.monotonic() + COMPUTE_S
    while time.monotonic() < until:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)


def fence(job):
    job.require_claim()


STEPS = {step.__name__: step for step in (fail, outage, lose, crash, die, freeze, hang, wait, compute, fence)}


def handle(job):
    started = job.settings.state_path / f"{job.stage}-{job.batch.id}-{job.attempt}"
    started.with_suffix(".pid").write_text(str(os.getpid()))
    started.with_suffix(".pid").rename(started.with_suffix(".started"))
    for step in script_of(job.settings).read_text().split():
        STEPS[step](job)
    return {"run_id": f"run-{job.batch.id}-{job.attempt}", **DETAILS}
