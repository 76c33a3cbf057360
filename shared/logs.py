"""Configure structured logs: JSON in a container, text on a terminal, and censored secrets in both."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

# Match up to the last '@' after the user name, because a password may contain an '@'. The match may go beyond the password, but
# it is better to censor too much than to show a part of a password.
_URL_PASSWORD = re.compile(r"(?P<before>://[^:/@\s]*:)\S+(?=@)")
_DSN_PASSWORD = re.compile(r"(?P<before>password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)
_SECRET_NAME = re.compile("password|secret", re.IGNORECASE)
_CENSORED = "***"


def censor(text: str) -> str:
    """Return the text with *** in place of each password in a URL or a connection string."""
    return _DSN_PASSWORD.sub(rf"\g<before>{_CENSORED}", _URL_PASSWORD.sub(rf"\g<before>{_CENSORED}", text))


def printable(text: str) -> str:
    """Return the text with ? in place of each unprintable character, because such characters can control a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _censor_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _censor_value(name, value) for name, value in event.items()}


def _censor_value(name: object, value: object) -> object:
    """Return the value of a log field with *** in place of each secret.

    A value that is not a number, a list or a mapping becomes a text first: an exception, for example, may quote a URL with a
    password.
    """
    if isinstance(name, str) and _SECRET_NAME.search(name):
        return _CENSORED
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(key): _censor_value(key, inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_censor_value(None, inner) for inner in value]
    return censor(str(value))


_COMMON: Final[list[structlog.types.Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Write each log event, of this project or of a library, as one line to standard error.

    Standard output is for the results of commands.
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    # Turn exceptions into text before secrets are censored, because a traceback may quote a secret.
    finish: list[structlog.types.Processor] = [structlog.processors.format_exc_info, _censor_event, renderer]
    structlog.configure(
        processors=[*_COMMON, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    _redirect_library_logs(finish)


def _redirect_library_logs(finish: list[structlog.types.Processor]) -> None:
    """Write Python's warnings, and the log records of libraries (WARNING and above), in the format of this project's logs."""
    handler = logging.StreamHandler(sys.stderr)
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_COMMON, structlog.stdlib.add_logger_name], processors=[without_meta, *finish]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    # Remove the handlers that libraries have installed, so that only `handler` writes the libraries' records.
    for name in list(root.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
