"""Say which setting to change if a listener cannot answer /metrics at its address."""

import socket

from shared.config import Settings
from shared.errors import PipelineError


def address_error(settings: Settings, error: OSError) -> PipelineError:
    """Return the error to raise if listening on METRICS_HOST and METRICS_PORT fails with `error`."""
    return PipelineError(
        f"cannot answer /metrics on {settings.metrics_host}, port {settings.metrics_port}: {error.strerror}",
        remedy="set METRICS_PORT to a free port (each listener of a machine needs its own), "
        "and METRICS_HOST to an address of this machine",
    )


def require_free_address(settings: Settings) -> None:
    """Raise a PipelineError if METRICS_PORT is in use, or METRICS_HOST is no address of this machine."""
    family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
    try:
        socket.create_server((settings.metrics_host, settings.metrics_port or 0), family=family).close()
    except OSError as error:
        raise address_error(settings, error) from error
