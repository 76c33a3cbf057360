"""Whose fault is it? An outage of what a stage stands on is waited out; a fault of the batch is counted, and given up some day.

Looked at are the error and what it was raised from, because every library wraps the errors of the one below it.
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
_SERVER_ERROR: Final = 500  # HTTP: from here on the server says that it is its own fault
_TOO_MANY_REQUESTS: Final = 429
_UNAVAILABLE: Final = frozenset({"TEMPORARILY_UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})


def outage_of(error: BaseException) -> OutageError | None:
    """The outage behind an error, or None where the error would come again with everything up and running."""
    for link in _chain(error):
        if (service := _away(link)) is not None:
            return OutageError(f"{service}: {censor(str(link)).strip() or type(link).__name__}")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from. Libraries forget `from`; our own errors do not, and mean it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        forgotten = None if link.__suppress_context__ or isinstance(link, PipelineError) else link.__context__
        link = link.__cause__ or forgotten


def _away(error: BaseException) -> str | None:
    """What is away, in words, if this error says so."""
    match error:
        case psycopg.errors.ProgramLimitExceeded():
            service = (
                None  # a statement that exceeds a limit of PostgreSQL's will exceed it the next time too
            )
        case DatabaseUnavailableError() | psycopg.OperationalError():
            service = "PostgreSQL is away"
        case requests.HTTPError(response=requests.Response(status_code=status)):
            service = "MLflow does not work" if _is_the_servers_fault(status) else None
        case requests.ConnectionError() | requests.Timeout():
            service = "MLflow is away"
        case MlflowException():
            service = "MLflow does not work" if _mlflow_is_away(error) else None
        case OSError(errno=number) if number in _NO_SPACE:
            service = "the disk is full"
        case ConnectionError() | TimeoutError():
            service = "a connection was lost"
        case _:
            service = None
    return service


def _is_the_servers_fault(status: int) -> bool:
    return status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS


def _mlflow_is_away(error: MlflowException) -> bool:
    """INTERNAL_ERROR is also MLflow's default for what goes wrong on this side; a server's answer says where it comes from."""
    if error.error_code in _UNAVAILABLE:
        return True
    from_the_server = isinstance(error, RestException) or str(error.message).startswith("API request to")
    return from_the_server and error.error_code == "INTERNAL_ERROR"
