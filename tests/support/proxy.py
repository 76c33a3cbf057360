"""A TCP proxy whose faults are switched on and off while it runs: what lies between a listener and its servers, failing for real.

A black hole is one: the kernel drops every packet that arrives for the connection, without an answer, as a firewall does that
has lost its state. Keepalives and TCP's user timeout see what they would see then, which no proxy does that merely stops
reading. It needs Linux: a socket filter that lets nothing pass (socket(7), SO_ATTACH_FILTER).
"""

import asyncio
import ctypes
import itertools
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

CHUNK_BYTES = 16_384
ANSWER_S = 0.1
HTTP_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RETURN_0 = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
_LET_NOTHING_PASS = struct.pack("HP", 1, ctypes.addressof(_RETURN_0))


@dataclass
class Impairment:
    """What happens to the bytes of all connections. `cut_after` counts those from the client since it was set."""

    delay_s: float = 0.0
    bytes_per_s: float = float("inf")
    cut_after: float = float("inf")
    answer: bytes | None = None


class Proxy:
    """Listens on a free port of this machine and forwards to `upstream()`, asked anew for each connection.

    Use as a context manager. `connections`, `forwarded_bytes` and `broken` count what has happened: a test can tell whether
    a fault met anything.
    """

    def __init__(self, upstream: Callable[[], tuple[str, int]]):
        self._upstream = upstream
        self._impairment = Impairment()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open: set[_Connection] = set()
        self._listening: asyncio.Server | None = None
        self.port = 0
        self.connections = self.forwarded_bytes = self.broken = 0

    def __enter__(self):
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_error):
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lead_to(self, upstream: Callable[[], tuple[str, int]]) -> None:
        """Forward new connections there from now on."""
        self._upstream = upstream

    # ---- faults, each until the end of the block

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Every connection is reset, and new ones are refused: the server is not there."""
        self._call(self._refuse())
        try:
            yield
        finally:
            self._call(self._listen())

    @contextmanager
    def black_hole(self, ports: Collection[int] | None = None) -> Iterator[None]:
        """Packets vanish, of every connection and of every attempt to make one; what was open then stays dead for ever.

        With `ports`, the ports from which the proxy has connected to the server, only those connections are hit.
        """
        self._call(self._drop(ports))
        try:
            yield
        finally:
            if ports is None:
                self._call(self._set_filter(_SO_DETACH_FILTER, bytes(4)))

    @contextmanager
    def slow(self, delay_s: float, bytes_per_s: float) -> Iterator[None]:
        """Whatever is sent, in either direction, is late and takes its time."""
        with self._under(Impairment(delay_s=delay_s, bytes_per_s=bytes_per_s)):
            yield

    @contextmanager
    def cutting(self, after_bytes: int) -> Iterator[None]:
        """Each connection is reset when its client has sent so many bytes more."""
        with self._under(Impairment(cut_after=after_bytes)):
            yield

    @contextmanager
    def answering(self, answer: bytes = HTTP_500) -> Iterator[None]:
        """Nothing reaches the server; whatever a client sends is answered with this."""
        with self._under(Impairment(answer=answer)):
            yield

    @contextmanager
    def half_dead(self) -> Iterator[None]:
        """Every second new connection is reset, and what was open: one of the two servers behind this address is dead."""
        alive = self._upstream
        turns = itertools.cycle([alive, _dead])

        def next_of_two() -> tuple[str, int]:
            return next(turns)()

        self._upstream = next_of_two
        self._call(self._reset_all())
        try:
            yield
        finally:
            self._upstream = alive

    # ---- on the loop

    def _call(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @contextmanager
    def _under(self, impairment: Impairment) -> Iterator[None]:
        for connection in list(self._open):
            connection.sent_bytes = 0
        self._impairment = impairment
        try:
            yield
        finally:
            self._impairment = Impairment()

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        self._listening.close()
        await self._reset_all()

    async def _reset_all(self) -> None:
        for connection in list(self._open):
            connection.reset()

    async def _drop(self, ports: Collection[int] | None) -> None:
        for connection in list(self._open):
            if ports is None or connection.server_side_port in ports:
                connection.drop()
        if ports is None:
            await self._set_filter(_SO_ATTACH_FILTER, _LET_NOTHING_PASS)

    async def _set_filter(self, option: int, value: bytes) -> None:
        for listening in self._listening.sockets:
            listening.setsockopt(socket.SOL_SOCKET, option, value)

    async def _close(self) -> None:
        self._listening.close()
        connections = list(self._open)
        for connection in connections:
            connection.reset()
        await asyncio.gather(*(connection.task for connection in connections), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._upstream())
        except OSError:
            self.broken += 1
            _reset(writer)
            return
        connection = _Connection(self, writer, server_writer)
        self._open.add(connection)
        try:
            await connection.run(reader, server_reader)
        finally:
            self._open.discard(connection)

    async def let_pass(self, connection: "_Connection", chunk: bytes, *, from_client: bool) -> bool:
        """Whether these bytes are to be forwarded, after a while perhaps; False when the connection is over."""
        now = self._impairment
        await asyncio.sleep(now.delay_s + len(chunk) / now.bytes_per_s)
        if from_client:
            connection.sent_bytes += len(chunk)
            if now.answer is not None:
                await connection.answer(now.answer)
                return False
            if connection.sent_bytes > now.cut_after:
                connection.reset()
                return False
        self.forwarded_bytes += len(chunk)
        return True


def _dead() -> tuple[str, int]:
    raise ConnectionRefusedError


class _Connection:
    """A client, and the server it means to speak to."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter):
        self._proxy, self._client, self._server = proxy, client, server
        self.client_port = client.get_extra_info("peername")[1]
        self.server_side_port = server.get_extra_info("sockname")[1]
        self.sent_bytes = 0
        self.task = asyncio.current_task()

    async def run(self, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader) -> None:
        pumps = [
            asyncio.ensure_future(self._pump(from_client, self._server, from_client=True)),
            asyncio.ensure_future(self._pump(from_server, self._client, from_client=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for writer in (self._client, self._server):
                writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        with suppress(OSError):  # either end has gone: so does the other
            while chunk := await source.read(CHUNK_BYTES):
                if not await self._proxy.let_pass(self, chunk, from_client=from_client):
                    return
                target.write(chunk)
                await target.drain()

    async def answer(self, answer: bytes) -> None:
        self._proxy.broken += 1
        self._client.write(answer)
        await self._client.drain()
        await asyncio.sleep(ANSWER_S)  # closing with bytes unread is a reset, which would overtake the answer

    def reset(self) -> None:
        self._proxy.broken += 1
        _reset(self._client)
        _reset(self._server)

    def drop(self) -> None:
        self._proxy.broken += 1
        for writer in (self._client, self._server):
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, _LET_NOTHING_PASS
            )


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()
