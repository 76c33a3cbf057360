"""Carry an expected error from a Spark worker to the driver, and tell what another failure of Spark means.

Spark gives the driver only the text of a Python error that a task has raised. So a task writes its error as JSON into this text,
and the driver reads the JSON and raises the same error. What the JSON says is censored: workers write it into their own logs.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException

from shared.errors import OutageError, PipelineError, StageError, VerificationError
from shared.logs import censor

# What fails if Java has ended, or if Java reports an error. OSError: the connection to Java is lost.
SPARK_ERRORS: Final = (PySparkException, Py4JError, OSError)
_KINDS: Final = {kind.__name__: kind for kind in (OutageError, StageError, VerificationError)}
_CARRIED: Final = re.compile(r"WorkerError: (\[.*\])")
# What Spark says if the cluster, not the work, has failed: the master is gone or gives the job up, a disk is full, an executor was
# frozen, or results of executors that have died were lost more often than Spark computes them again. The executor's own exit is not
# among them: if it runs out of memory, it does so again, until a person changes a setting.
_OUTAGE: Final = re.compile(
    "SparkContext was shut down|stopped SparkContext|Master removed our application|masters are unresponsive"
    "|No space left on device|Connection refused|Could not connect to|Failed to connect to|Broken pipe"
    "|heartbeat timed out|failed the maximum allowable number of times"
)
# A worker that is lost with its executors does not count for the task, so this is a program that ended four times, or lacks memory.
_EXECUTOR_LOST: Final = re.compile(
    r"ExecutorLostFailure[^\n]*|OutOfMemoryError[^\n]*|Python worker exited unexpectedly[^\n]*|MemoryError[^\n]*"
)


class WorkerError(Exception):
    """An expected error in a task. Its text is one line of JSON."""


@contextmanager
def carry_errors() -> Iterator[None]:
    """Raise a WorkerError for each expected error, in a task. Other errors are defects, and keep their traceback."""
    try:
        yield
    except WorkerError:
        raise
    except Exception as error:
        from listeners.outages import outage_of  # noqa: PLC0415  it imports MLflow, and a worker rarely needs it

        expected = outage_of(error) or (error if isinstance(error, PipelineError) else None)
        if expected is None:
            raise
        kind = type(expected).__name__ if type(expected).__name__ in _KINDS else StageError.__name__
        raise WorkerError(json.dumps([kind, censor(expected.message), expected.remedy])) from None


@contextmanager
def translate_errors() -> Iterator[None]:
    """Re-raise a failure of Spark as the error that its task carried, or as the outage or failure that it means.

    Raises:
        OutageError: the cluster is unavailable.
        StageError: executors died. Or the class of the error that a task has carried.
    """
    try:
        yield
    except (PySparkException, Py4JError, ConnectionError) as error:
        meaning = _meaning_of(error)
        if meaning is error:
            raise
        raise meaning from error


def _meaning_of(error: Exception) -> Exception:
    text = str(error)
    if carried := _CARRIED.search(text):
        kind, message, advice = json.loads(carried[1])
        return _KINDS[kind](message, remedy=advice)
    java_is_gone = isinstance(error, ConnectionError | Py4JError) and not isinstance(error, Py4JJavaError)
    if java_is_gone or _OUTAGE.search(text):
        return OutageError(f"Apache Spark is unavailable: {summary(error)}")
    if lost := _EXECUTOR_LOST.search(text):
        return StageError(
            f"Apache Spark lost an executor too often: {censor(lost[0])}",
            remedy="look at the executor's log; if it lacks memory, set spark.executor.memory in the file SPARK_CONF",
        )
    return error


def summary(error: Exception) -> str:
    """Return the line that says what went wrong. py4j names the Java method first, and Java's own message is in the next line."""
    lines = str(error).splitlines()
    of_java = [line.removeprefix(": ") for line in lines if line.startswith(": ")]
    return censor([*of_java, *lines, type(error).__name__][0])
