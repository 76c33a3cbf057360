"""What is waited out, and what counts against the batch."""

import errno

import psycopg
import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from listeners.outages import outage_of
from shared.errors import DatabaseUnavailableError, StageError, VerificationError


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} for url", response=response)


def raised(error: Exception, cause: Exception, *, explicitly: bool = True) -> Exception:
    """As `raise error from cause` leaves it, or a mere `raise error` while `cause` is handled."""
    if explicitly:
        error.__cause__ = cause
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "service"),
    [
        (DatabaseUnavailableError("no answer"), "PostgreSQL"),
        (psycopg.errors.AdminShutdown("terminating connection"), "PostgreSQL"),
        (psycopg.OperationalError("the connection is lost"), "PostgreSQL"),
        (requests.ConnectionError("refused"), "MLflow"),
        (requests.ReadTimeout("10 s"), "MLflow"),
        (answered(500), "MLflow"),
        (answered(503), "MLflow"),
        (answered(429), "MLflow"),
        (MlflowException("API request to http://x failed with exception timeout"), "MLflow"),
        (RestException({"error_code": "INTERNAL_ERROR", "message": "database is away"}), "MLflow"),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "later"}), "MLflow"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (raised(StageError("the artifact cannot be read"), requests.ConnectionError("reset")), "MLflow"),
        (raised(MlflowException("wrapped"), requests.Timeout("slow"), explicitly=False), "MLflow"),
        (ConnectionResetError("reset by peer"), "connection"),
    ],
)
def test_an_outage_is_recognised_through_whatever_wraps_it(error, service):
    assert service in str(outage_of(error))


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a defect"),
        MemoryError(),
        VerificationError("not what was promised"),
        psycopg.errors.UndefinedTable("no such table"),
        psycopg.errors.ProgramLimitExceeded("too many columns"),
        answered(404),
        answered(403),
        MlflowException("cannot be serialised"),
        RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such run"}),
        FileNotFoundError("no such file"),
        # what came up while an outage was handled, and was raised for a reason of its own
        raised(VerificationError("rows are missing"), requests.ConnectionError("reset"), explicitly=False),
    ],
)
def test_a_fault_of_the_batch_is_none(error):
    assert outage_of(error) is None


def test_no_password_is_repeated():
    said = str(outage_of(psycopg.OperationalError("postgresql://me:secret@host/db refuses")))
    assert "secret" not in said
