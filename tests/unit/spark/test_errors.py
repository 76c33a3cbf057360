"""What fails in a task reaches the driver as the error that it was, and what fails in Spark as what it means."""

import errno

import pytest

pytest.importorskip("pyspark")

from py4j.protocol import Py4JNetworkError
from pyspark.errors import PySparkException

from listeners.outages import outage_of
from listeners.spark.errors import WorkerError, carry_errors, translate_errors
from shared.errors import DatabaseUnavailableError, FencedError, OutageError, StageError, VerificationError


def on_the_driver(error: Exception) -> Exception:
    """The error that the driver raises for one in a task, of which Spark passes on the text only."""
    with pytest.raises(Exception) as raised, carry_errors():  # noqa: PT011
        raise error
    text = f"Job aborted\nTraceback ...\n{type(raised.value).__qualname__}: {raised.value}\n\nDriver stacktrace: ..."
    with pytest.raises(Exception) as translated, translate_errors():  # noqa: PT011
        raise PySparkException(text)
    return translated.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DatabaseUnavailableError("PostgreSQL does not answer"), OutageError),
        (OSError(errno.ENOSPC, "No space left"), OutageError),
        (VerificationError("part-1 has SHA-256 x", remedy="rebuild [it]"), VerificationError),
        (StageError("no rows"), StageError),
    ],
)
def test_an_expected_error_in_a_task_is_raised_by_the_driver_with_its_remedy(error, kind):
    raised = on_the_driver(error)
    assert type(raised) is kind
    assert raised.remedy == getattr(error, "remedy", None) or kind is OutageError


def test_a_defect_in_a_task_stays_a_defect():
    defect = on_the_driver(ZeroDivisionError("division by zero"))
    assert isinstance(defect, PySparkException)
    assert outage_of(defect) is None


def test_no_carried_error_shows_a_password():
    with pytest.raises(WorkerError) as raised, carry_errors():
        raise DatabaseUnavailableError("cannot connect: password=pl3ase host=db")
    assert "pl3ase" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (PySparkException("Job 5 cancelled because SparkContext was shut down"), OutageError, "unavailable"),
        (Py4JNetworkError("Answer from Java side is empty"), OutageError, "unavailable"),
        (ConnectionRefusedError("Connection refused"), OutageError, "unavailable"),
        (
            PySparkException("ShuffleMapStage 3 has failed the maximum allowable number of times: 4"),
            OutageError,
            "unavailable",
        ),
        (
            PySparkException("An error occurred\n: java.io.IOException: No space left on device\n\tat x"),
            OutageError,
            "unavailable: java.io.IOException: No space left on device$",
        ),
        (
            PySparkException(
                "Lost task 0.3: org.apache.spark.SparkException: Python worker exited unexpectedly"
            ),
            StageError,
            "Python worker exited",
        ),
        (
            PySparkException(
                "Job aborted: Most recent failure: ExecutorLostFailure (executor 1 exited: 137)\nDriver"
            ),
            StageError,
            r"executor 1 exited: 137\)\n  remedy: .*spark.executor.memory",
        ),
        (PySparkException("[UNRESOLVED_COLUMN] x"), PySparkException, "UNRESOLVED"),
    ],
)
def test_a_failure_of_spark_is_an_outage_if_the_cluster_has_failed(error, kind, said):
    with pytest.raises(kind, match=said), translate_errors():
        raise error


def test_an_error_of_the_driver_is_left_as_it_is():
    with pytest.raises(FencedError), translate_errors():
        raise FencedError("lost")
