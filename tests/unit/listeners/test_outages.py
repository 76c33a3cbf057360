"""What is waited out, and what counts against the batch."""

import errno
import sqlite3

import psycopg
import psycopg2
import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ErrorCode

from listeners.outages import outage_of
from shared.errors import DatabaseUnavailableError, StageError, VerificationError


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} for url", response=response)


def by_text(status: int, error_code: str) -> MlflowException:
    """As MLflow's client turns an answer that is no JSON into an error."""
    return MlflowException(
        f"API request to endpoint /api failed with error code {status} != 200. Response body: ''",
        error_code=ErrorCode.Value(error_code),
    )


def of_sqlite(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


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
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE"), "PostgreSQL"),
        (psycopg.errors.SerializationFailure("could not serialize access"), "PostgreSQL"),
        (psycopg.errors.IdleInTransactionSessionTimeout("terminating"), "PostgreSQL"),
        (psycopg2.OperationalError("MLflow's own database is away"), "MLflow's database"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "processes"),
        (OSError(errno.EMFILE, "Too many open files"), "processes"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (RuntimeError("can't start new thread"), "processes"),
        (raised(MlflowException("wrapped"), of_sqlite("SQLITE_BUSY")), "locked"),
    ],
)
def test_an_outage_is_recognised_through_whatever_wraps_it(error, service):
    assert service in str(outage_of(error))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), "exempt the sessions"),
        (psycopg.errors.InsufficientPrivilege("permission denied for table products"), "log in as a member"),
        (psycopg.errors.InvalidCatalogName("database does not exist"), "create the database"),
        (psycopg.errors.UndefinedFunction("claim_next does not exist"), "rakuten db upgrade"),
        (answered(401), "MLFLOW_TRACKING_PASSWORD"),
        (answered(403), "MLFLOW_TRACKING_PASSWORD"),
        (by_text(401, "UNAUTHENTICATED"), "MLFLOW_TRACKING_PASSWORD"),
        (by_text(404, "ENDPOINT_NOT_FOUND"), "correct MLFLOW_TRACKING_URI"),
        (
            RestException(
                {
                    "error_code": "INVALID_PARAMETER_VALUE",
                    "message": "The experiment 1 must be in the 'active' state.",
                }
            ),
            "mlflow experiments restore -x 1",
        ),
        (OSError(errno.EROFS, "Read-only file system"), "mount it writable"),
        (PermissionError(errno.EACCES, "Permission denied"), "let the user"),
        (OSError(errno.EIO, "Input/output error"), "disk"),
        (OSError(errno.ESTALE, "Stale file handle"), "mount it again"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "free disk space"),
        (FileNotFoundError(errno.ENOENT, "no such file", "/nowhere/at/all"), "mount or create it"),
    ],
)
def test_an_outage_that_a_person_must_end_says_how(error, remedy):
    outage = outage_of(error)
    assert outage is not None
    assert outage.remedy is not None
    assert remedy in outage.remedy


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a defect"),
        MemoryError(),
        VerificationError("not what was promised"),
        psycopg.errors.UniqueViolation("duplicate key"),
        psycopg.errors.ProgramLimitExceeded("too many columns"),
        answered(404),
        of_sqlite("SQLITE_CONSTRAINT"),
        FileNotFoundError(errno.ENOENT, "no such file", __file__ + ".missing"),
        MlflowException("cannot be serialised"),
        RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such run"}),
        FileNotFoundError("no such file"),
        # what came up while an outage was handled, and was raised for a reason of its own
        raised(VerificationError("rows are missing"), requests.ConnectionError("reset"), explicitly=False),
    ],
)
def test_a_fault_of_the_batch_is_none(error):
    assert outage_of(error) is None


def test_an_error_that_is_its_own_cause_is_looked_at_once():
    error = ValueError("x")
    error.__cause__ = error
    assert outage_of(error) is None


def test_no_password_is_repeated():
    said = str(outage_of(psycopg.OperationalError("postgresql://me:secret@host/db refuses")))
    assert "secret" not in said
