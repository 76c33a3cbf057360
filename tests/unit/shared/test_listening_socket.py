"""A socket that another process may inherit, and whose connections send each answer at once."""

import asyncio
import errno
import os
import socket

import pytest

from shared.errors import PipelineError
from shared.listening_socket import inherited_socket, listening_socket


@pytest.mark.parametrize("inherited", [False, True], ids=["own", "inherited"])
def test_its_connections_do_not_wait_for_more_to_send(inherited):
    async def no_delay() -> int:
        accepted = asyncio.get_running_loop().create_future()
        listening = listening_socket("127.0.0.1", 0)
        if inherited:
            listening = inherited_socket(listening.detach())
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=listening)
        async with server:
            _, client = await asyncio.open_connection(*listening.getsockname())
            writer = await accepted
            option = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for end in (writer, client):
                end.close()
                await end.wait_closed()
            return option

    assert asyncio.run(no_delay()) == 1


def test_an_address_that_is_in_use_is_named_and_another_one_works():
    with listening_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PipelineError, match=f"port {port}: {os.strerror(errno.EADDRINUSE)}"):
            listening_socket("127.0.0.1", port)
        with listening_socket("127.0.0.1", 0) as free:
            assert free.getsockname()[1] != port


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(PipelineError, match="cannot listen on 192"):
        listening_socket("192.0.2.1", 8000)  # no machine has this address (RFC 5737)
