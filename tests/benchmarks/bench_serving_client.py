"""A client that costs little: prepared requests over asyncio's sockets, which stay open (HTTP/1.1 keep-alive).

It reads of an answer only the status, the length and the version of the model. It takes about 0.1 ms of CPU for a request, which
the benchmark measures and prints, so that it hardly takes time from a server on the same two cores. The same client asks both servers.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bench_measure import Task

_END_OF_HEAD = b"\r\n\r\n"
_VERSION = b"x-model-version: "
_LENGTH = b"content-length: "
_DEADLINE_S = 120.0

Product = dict[str, str | None]


@dataclass(frozen=True)
class Endpoint:
    """Where a server takes products. `wrap` makes its body from the JSON of one product or of a list."""

    port: int
    path: str
    columns: tuple[str, ...] | None = None

    def request(self, products: Sequence[Product]) -> bytes:
        """A request for one product, or a list: as MLflow takes it where columns are named, else as ours does."""
        if self.columns is not None:
            rows = [[product[name] for name in self.columns] for product in products]
            body: object = {"dataframe_split": {"columns": self.columns, "data": rows}}
        else:
            body = products[0] if len(products) == 1 else list(products)
        content = json.dumps(body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


@dataclass(frozen=True)
class Answer:
    """When a request was sent and when its answer was complete, of CLOCK_MONOTONIC, and by which version of the model it is."""

    sent_ns: int
    received_ns: int
    version: int | None

    @property
    def ms(self) -> float:
        return (self.received_ns - self.sent_ns) / 1e6


class _Connection(asyncio.Protocol):
    """Sends a request, waits for the answer, sends the next one."""

    def __init__(self, requests: Iterator[bytes], go_on: Callable[[Answer], bool]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers: list[Answer] = []
        self._requests = requests
        self._go_on = go_on
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._received.clear()
        self._sent_ns = time.monotonic_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_END_OF_HEAD)
        if not end or len(body) < int(_header(head.lower(), _LENGTH) or 0):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(bytes(self._received))
            return
        version = _header(head.lower(), _VERSION)
        answer = Answer(self._sent_ns, time.monotonic_ns(), None if version is None else int(version))
        self.answers.append(answer)
        if self._go_on(answer):
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None) if error is None else self.ended.set_exception(error)

    def _fail(self, answer: bytes) -> None:
        self.ended.set_exception(RuntimeError(f"the server answered {answer[:500].decode()}"))
        self._transport.close()


def _header(head: bytes, name: bytes) -> bytes | None:
    _before, found, after = head.partition(b"\r\n" + name)
    return after.partition(b"\r\n")[0] if found else None


def ask(
    port: int,
    requests: Iterator[bytes],
    connections: int = 1,
    go_on: Callable[[Answer], bool] = lambda _: True,
) -> list[Answer]:
    """Send each request, the next one of a connection after the answer to its last, until `go_on` says no."""
    return asyncio.run(_ask(port, requests, connections, go_on))


async def _ask(
    port: int, requests: Iterator[bytes], connections: int, go_on: Callable[[Answer], bool]
) -> list[Answer]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_DEADLINE_S):
        opened = [
            (await loop.create_connection(lambda: _Connection(requests, go_on), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        await asyncio.gather(*(connection.ended for connection in opened))
    return [answer for connection in opened for answer in connection.answers]


def ask_until(port: int, request: bytes, version: int) -> list[Answer]:
    """Send the same request again and again, until this version of the model answers it."""
    return ask(port, itertools.repeat(request), go_on=lambda answer: answer.version != version)


def prepare_client(port: int, requests: list[bytes], count: int, connections: int) -> Task:
    """In a child: `count` requests, which repeat those that are given."""
    several = itertools.islice(itertools.cycle(requests), count)
    return Task(partial(ask, port, several, connections), lambda answers: answers)
