"""A job as a worker hands it to a handler, for tests that call a handler themselves."""

from datetime import UTC, datetime

from psycopg.types.json import Jsonb

from db.batches import read_batch
from db.connect import connect
from listeners.claims import Claim
from listeners.job import Job
from shared.batch import Batch
from shared.events import Stage


def claim_of(conninfo, batch_id, attempt) -> Claim:
    """The claim of an attempt that was made already."""
    with connect(conninfo, "test") as connection:
        return Claim(read_batch(connection, batch_id), attempt, 0, "notify")


def claim_job(stage, conninfo, settings, batch_id) -> Job:
    """Claim a batch; the claim's lock ends with the connection, and the attempt number stands."""
    with connect(conninfo, "test", autocommit=True) as connection:
        statement = "select claim_stage(%s, %s, 'host:1', 'notify', '0 s')"
        [attempt] = connection.execute(statement, [batch_id, stage]).fetchone()
    return Job(stage, conninfo, settings, "", claim_of(conninfo, batch_id, attempt).batch, attempt)


def made_up_job(settings, handler, conninfo="", stage=Stage.SNAPSHOT) -> Job:
    """A job of a batch that no database knows, for handlers that read none."""
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    batch = Batch(1, "week_1", "completed", moment, moment, 900, 1, 1, "5ea1", {}, {})
    return Job(stage, conninfo, settings, handler, batch, 1)


def finish(job: Job, result: dict) -> None:
    """Record the result of a job, as its worker does."""
    with connect(job.conninfo, "test", autocommit=True) as connection:
        values = [job.batch.id, job.stage, job.attempt, Jsonb(result)]
        connection.execute("select finish_stage(%s, %s, %s, %s)", values)
