"""Tell whether an error means an outage or a failure of the batch itself.

An outage means that PostgreSQL, MLflow or this machine cannot do the work now. The content of the batch does not matter. The
stage tries the batch again until the outage ends. If only a person can end the outage, for example by correcting a password,
the error carries the remedy. A failure is counted for the batch, and after MAX_ATTEMPTS failures the stage gives the batch up.
Both an error and its causes are examined, because libraries wrap the errors of the libraries that they use.
"""

import errno
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import psycopg2
import requests
from mlflow.exceptions import MlflowException, RestException

from db.sqlstates import Kind, meaning_of
from shared.errors import DatabaseUnavailableError, OutageError, PipelineError
from shared.logs import censor


class _Outage(NamedTuple):
    """What cannot do the work now, and what a person must do about it. `remedy` is None if the outage may end by itself."""

    what: str
    remedy: str | None = None


_FREE_SPACE: Final = _Outage("the disk is full", "free disk space")
_OUT_OF_PROCESSES: Final = _Outage("this machine has too many processes, threads or open files")
_FORBIDDEN: Final = _Outage("a folder cannot be written", "let the user of the listener write to the folder")
_BY_ERRNO: Final = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EROFS: _Outage("a file system is read-only", "mount it writable"),
    errno.EIO: _Outage("a disk does not work", "look at the kernel's log, and replace the disk"),
    errno.ESTALE: _Outage("a network file system has lost its server", "mount it again"),
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EMFILE: _OUT_OF_PROCESSES,
    errno.ENFILE: _OUT_OF_PROCESSES,
    errno.EAGAIN: _OUT_OF_PROCESSES,
    errno.ENOMEM: _Outage("this machine is out of memory"),
}
_CREDENTIALS: Final = _Outage(
    "MLflow rejects the login",
    "correct MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN",
)
_NOT_MLFLOW: Final = _Outage(
    "there is no MLflow at its address", "start MLflow, or correct MLFLOW_TRACKING_URI"
)
_MLFLOW_ERROR: Final = _Outage("MLflow returned a server error")
_BY_ERROR_CODE: Final = {
    "TEMPORARILY_UNAVAILABLE": _MLFLOW_ERROR,
    "RESOURCE_EXHAUSTED": _MLFLOW_ERROR,
    "REQUEST_LIMIT_EXCEEDED": _MLFLOW_ERROR,
    "DEADLINE_EXCEEDED": _MLFLOW_ERROR,
    "UNAUTHENTICATED": _CREDENTIALS,
    "CUSTOMER_UNAUTHORIZED": _CREDENTIALS,
    "PERMISSION_DENIED": _CREDENTIALS,
    "ENDPOINT_NOT_FOUND": _NOT_MLFLOW,
}
_SERVER_ERROR: Final = 500  # an HTTP status of 500 or more is an error of the server
_BY_STATUS: Final = {401: _CREDENTIALS, 403: _CREDENTIALS, 429: _MLFLOW_ERROR}
_DELETED_EXPERIMENT: Final = re.compile(r"The experiment (\d+) must be in the 'active' state")
# SQLite's own error code for an error that another program or the disk causes. https://www.sqlite.org/rescode.html
_SQLITE: Final = {
    sqlite3.SQLITE_BUSY: _Outage("another program has locked MLflow's database"),
    sqlite3.SQLITE_LOCKED: _Outage("another program has locked MLflow's database"),
    sqlite3.SQLITE_FULL: _FREE_SPACE,
    sqlite3.SQLITE_READONLY: _BY_ERRNO[errno.EROFS],
    sqlite3.SQLITE_IOERR: _BY_ERRNO[errno.EIO],
    sqlite3.SQLITE_CANTOPEN: _Outage(
        "MLflow's database cannot be opened", "restore the folder of MLFLOW_TRACKING_URI"
    ),
}
_NO_THREAD: Final = "can't start new thread"  # CPython raises a RuntimeError with this message


def outage_of(error: BaseException) -> OutageError | None:
    """Return the outage that caused an error, or None if the error would occur even with every service available."""
    for link in _error_and_causes(error):
        if isinstance(link, OutageError):
            return link
        outage = next((rule(link) for kind, rule in _RULES if isinstance(link, kind)), None)
        if outage is not None:
            said = link.message if isinstance(link, PipelineError) else str(link)
            return OutageError(
                f"{outage.what}: {censor(said).strip() or type(link).__name__}", remedy=outage.remedy
            )
    return None


def _error_and_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then its cause, then the cause of the cause, and so on.

    Some libraries raise an error without `from`. Then the error that was being handled at that moment counts as the cause. This
    does not apply to a PipelineError, because our own code always names the cause with `from`.
    """
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:  # `raise error from error` makes a circle
        seen.add(id(link))
        yield link
        handled = None if link.__suppress_context__ or isinstance(link, PipelineError) else link.__context__
        link = link.__cause__ or handled


def _outage_of_postgresql(error: psycopg.Error) -> _Outage | None:
    meaning = meaning_of(error)
    match meaning.kind:
        case Kind.SETTING:
            return _Outage("PostgreSQL cannot do it", meaning.remedy)
        case Kind.OUTAGE | Kind.CONFLICT:
            return _Outage("PostgreSQL is unavailable")
        case Kind.DEFECT:
            return None


def _outage_of_http(error: requests.HTTPError) -> _Outage | None:
    status = 0 if error.response is None else error.response.status_code
    return _MLFLOW_ERROR if status >= _SERVER_ERROR else _BY_STATUS.get(status)


def _outage_of_mlflow(error: MlflowException) -> _Outage | None:
    """Return the outage that an error of MLflow means.

    MLflow uses the error code INTERNAL_ERROR for errors inside its client, too. So INTERNAL_ERROR counts as an outage only if a
    request to the server failed.
    """
    message = str(error.message)
    if deleted := _DELETED_EXPERIMENT.search(message):
        return _Outage(
            "the experiment is deleted in MLflow", f"restore it: mlflow experiments restore -x {deleted[1]}"
        )
    from_the_server = isinstance(error, RestException) or message.startswith("API request to")
    if error.error_code == "INTERNAL_ERROR" and from_the_server:
        return _MLFLOW_ERROR
    return _BY_ERROR_CODE.get(error.error_code)


def _outage_of_system(error: OSError) -> _Outage | None:
    """Return the outage that an error of the operating system means.

    A file that does not exist is no outage, unless its folder does not exist either: then a disk is not mounted, or a program
    has emptied the folder for temporary files.
    """
    if error.errno == errno.ENOENT and error.filename is not None:
        folder = Path(str(error.filename)).parent
        return None if folder.is_dir() else _Outage(f"the folder {folder} is missing", "mount or create it")
    return _BY_ERRNO.get(error.errno or 0)


# The first rule whose class fits an error decides. More special classes come first.
_RULES: Final[tuple[tuple[type[BaseException], Callable[[Any], _Outage | None]], ...]] = (
    (DatabaseUnavailableError, lambda _: _Outage("PostgreSQL is unavailable")),
    (psycopg.Error, _outage_of_postgresql),
    (psycopg2.OperationalError, lambda _: _Outage("MLflow's database is unavailable")),
    (requests.HTTPError, _outage_of_http),
    (requests.ConnectionError, lambda _: _Outage("MLflow is unavailable")),
    (requests.Timeout, lambda _: _Outage("MLflow is unavailable")),
    (MlflowException, _outage_of_mlflow),
    # the low byte of SQLite's code is the kind of the error
    (sqlite3.Error, lambda error: _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)),
    (ConnectionError, lambda _: _Outage("a connection was lost")),
    (TimeoutError, lambda _: _Outage("a connection was lost")),
    (OSError, _outage_of_system),
    (RuntimeError, lambda error: _OUT_OF_PROCESSES if str(error) == _NO_THREAD else None),
)
