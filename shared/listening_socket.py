"""Listen on an address. If this is not possible, say why."""

import socket
from typing import Final

from shared.errors import PipelineError

_BACKLOG: Final = 1_000  # connections that wait until they are accepted


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections. A port of 0 stands for any free port.

    Raises:
        PipelineError: the address is in use, or is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise PipelineError(
            f"cannot listen on {host}, port {port}: {error.strerror}",
            remedy="set SERVE_PORT to a free port, and SERVE_HOST to an address of this machine",
        ) from error
