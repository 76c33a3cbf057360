"""Tell whether an error means an outage of a service (PostgreSQL, MLflow or the disk) or a failure of the batch itself.

During an outage, a stage retries until the service is available again. A failure is counted for the batch, and after
MAX_ATTEMPTS failures the stage gives the batch up. Both an error and its causes are examined, because libraries wrap the errors
of the libraries that they use.
"""

import errno
from collections.abc import Iterator
from typing import Final

import psycopg
import requests
from mlflow.exceptions import MlflowException, RestException

from shared.errors import DatabaseUnavailableError, OutageError, PipelineError
from shared.logs import censor

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_SERVER_ERROR: Final = 500  # an HTTP status code of 500 or more means a fault of the server
_TOO_MANY_REQUESTS: Final = 429
_UNAVAILABLE: Final = frozenset({"TEMPORARILY_UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})


def outage_of(error: BaseException) -> OutageError | None:
    """Return the outage that caused an error, or None if the error would occur even with every service available."""
    for link in _error_and_causes(error):
        if (service := _unavailable_service(link)) is not None:
            return OutageError(f"{service}: {censor(str(link)).strip() or type(link).__name__}")
    return None


def _error_and_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then its cause, then the cause of the cause, and so on.

    Some libraries raise an error without `from`. Then the error that was being handled at that moment counts as the cause. This
    does not apply to a PipelineError, because our own code always names the cause with `from`.
    """
    link: BaseException | None = error
    while link is not None:
        yield link
        handled = None if link.__suppress_context__ or isinstance(link, PipelineError) else link.__context__
        link = link.__cause__ or handled


def _unavailable_service(error: BaseException) -> str | None:
    """Describe the outage in a few words, such as "MLflow is unavailable". Return None if the error means no outage."""
    match error:
        case psycopg.errors.ProgramLimitExceeded():
            service = None  # an OperationalError, but no outage: a second try would exceed the same limit
        case DatabaseUnavailableError() | psycopg.OperationalError():
            service = "PostgreSQL is unavailable"
        case requests.HTTPError(response=requests.Response(status_code=status)):
            service = "MLflow returned a server error" if _is_server_error(status) else None
        case requests.ConnectionError() | requests.Timeout():
            service = "MLflow is unavailable"
        case MlflowException():
            service = "MLflow cannot process requests" if _is_mlflow_outage(error) else None
        case OSError(errno=number) if number in _NO_SPACE:
            service = "the disk is full"
        case ConnectionError() | TimeoutError():
            service = "a connection was lost"
        case _:
            service = None
    return service


def _is_server_error(status: int) -> bool:
    return status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS


def _is_mlflow_outage(error: MlflowException) -> bool:
    """Tell whether an MLflow error is the sign of an outage of the MLflow server.

    MLflow uses the error code INTERNAL_ERROR for errors inside its client too. So INTERNAL_ERROR counts as an outage only if a
    request to the server failed.
    """
    if error.error_code in _UNAVAILABLE:
        return True
    from_the_server = isinstance(error, RestException) or str(error.message).startswith("API request to")
    return from_the_server and error.error_code == "INTERNAL_ERROR"
