"""Listen on an address. If this is not possible, say why."""

import socket
from typing import Final

from shared.errors import PipelineError

_BACKLOG: Final = 1_000  # connections that wait until they are accepted


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a TCP socket that accepts connections. A port of 0 stands for any free port.

    Raises:
        PipelineError: the address is in use, or is not one of this machine.
    """
    # socket.create_server would not name the protocol. Then asyncio does not set TCP_NODELAY, and each answer is 40 ms late.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise PipelineError(
            f"cannot listen on {host}, port {port}: {error.strerror}",
            remedy="set SERVE_PORT to a free port, and SERVE_HOST to an address of this machine",
        ) from error
    return listening


def inherited_socket(descriptor: int) -> socket.socket:
    """Return the socket that the parent process has made with `listening_socket("127.0.0.1", ...)`."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
