"""A real model server answers its other clients while one client sends slowly, closes its connection, or sends no valid HTTP."""

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import impatient_server
import model_server
import pytest
from free_port import free_port
from waiting import eventually

from listeners.training.serialise import save_model
from shared.config import environment_for, read_settings

BODY_TIMEOUT_S = 2.0
DEADLINE_S = 30
START_S = 240
MARKER = "SECRET"
POOL = json.dumps({"designation": f"piscine gonflable {MARKER}"}).encode()
BOOK = json.dumps({"designation": f"roman poche {MARKER}"}).encode()


def post(body: bytes, *, length: int | None = None) -> bytes:
    """A request; its content-length says `length`."""
    length = len(body) if length is None else length
    return f"POST /predict HTTP/1.1\r\nhost: server\r\ncontent-length: {length}\r\n\r\n".encode() + body


class Server:
    """The process, its port and its log."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path):
        self.process, self.port, self.log = process, port, log

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        with closing(connection), suppress(OSError):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    def predicts(self) -> bool:
        """Whether another client gets its prediction."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)) as connection:
            connection.request("POST", "/predict", POOL)
            answer = json.loads(connection.getresponse().read())
        return [one["prdtypecode"] for one in answer["predictions"]] == [2583]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    save_model(directory / "model", model_server.fit_pipelines()[1])
    port = free_port()
    settings = read_settings(
        state_path=directory / "state", serve_port=port, log_format="json", _env_file=None
    )
    command = [
        sys.executable,
        impatient_server.__file__,
        BODY_TIMEOUT_S,
        "serve",
        "--model",
        directory / "model",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), env=environment_for(settings), cwd=directory, stdout=log, stderr=log
        )
    running = Server(process, port, directory / "log")
    try:
        eventually(running.is_ready, START_S)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


@pytest.fixture(autouse=True)
def _others_are_answered_and_nothing_is_given_away(server):
    yield
    assert server.predicts()
    log = server.log.read_text()
    assert MARKER not in log
    assert "Traceback" not in log


def read_to_end(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def is_answered(slow: socket.socket) -> bool:
    """Send one byte more unless the server has answered or closed the connection."""
    slow.settimeout(0.001)
    try:
        slow.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        with suppress(ConnectionError):
            slow.sendall(b"x")
        return False
    return True


def test_a_body_that_comes_byte_by_byte_is_given_up_and_the_connection_closed(server):
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(20)]
        for connection in slow:
            connection.sendall(post(b'{"', length=1_000))
        waiting, deadline = set(slow), time.monotonic() + DEADLINE_S
        while waiting and time.monotonic() < deadline:
            waiting -= {connection for connection in waiting if is_answered(connection)}
            assert server.predicts()
        for connection in slow:
            connection.settimeout(DEADLINE_S)
            assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")


def test_headers_that_never_end_keep_nobody_waiting(server):
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(20)]
        for byte in b"POST /predict HTTP/1.1\r\nx-":
            for connection in slow:
                connection.sendall(bytes([byte]))
        assert server.predicts()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "sent",
    [
        post(POOL, length=1_000),
        post(POOL),
        b"POST /predict HTTP/1.1\r\n",
        b"",
        post(b"[" * 9_999, length=10_000),
    ],
    ids=["in the body", "before the answer", "in the headers", "at once", "in a long body"],
)
def test_a_client_may_leave_at_any_time(server, sent, reset):
    with server.connect() as connection:
        connection.sendall(sent)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_pipelined_requests_are_answered_in_their_order(server):
    with server.connect() as connection:
        connection.sendall(
            (post(POOL) + post(BOOK) + post(b"{")) * 2
            + b"GET /model HTTP/1.1\r\nconnection: close\r\nhost: a\r\n\r\n"
        )
        answers = read_to_end(connection).split(b"HTTP/1.1 ")[1:]
    assert [int(answer[:3]) for answer in answers] == [200, 200, 422, 200, 200, 422, 200]
    codes = [
        json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"][0]["prdtypecode"]
        for answer in answers
        if answer.startswith(b"200") and b"predictions" in answer
    ]
    assert codes == [2583, 10, 2583, 10]


CHUNKED = b"POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        pytest.param(f"{MARKER}\r\n\r\n".encode(), {400}, id="no HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500, {400}, id="TLS"),
        pytest.param(f"POST /predict HTTP/1.1\r\n{MARKER}\r\n\r\n".encode(), {400}, id="bad header"),
        pytest.param(post(POOL).replace(b"length: ", b"length: -"), {400}, id="negative length"),
        pytest.param(post(POOL, length=10**30), {400}, id="huge length"),
        pytest.param(CHUNKED + b"\r\n5\r\n[{}]\n\r\nxyz\r\n", {400}, id="bad chunk"),
        # uvicorn's two parsers differ: one refuses the length, the other ignores it and waits for more chunks
        pytest.param(CHUNKED + b"content-length: 9\r\n\r\n5\r\n[{}]\n\r\n", {400, 408}, id="two lengths"),
        pytest.param(post(b" " * 9_000_000 + POOL), {413}, id="long"),
        pytest.param(post(b" " * 8_500_000, length=9_000_000), {413}, id="long before its end"),
    ],
)
def test_what_is_no_right_request_is_refused(server, sent, allowed):
    with server.connect() as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        with suppress(ConnectionError):
            received = connection.recv(65_536)
            assert received.startswith(b"HTTP/1.1 ")
            assert int(received[9:12]) in allowed
            assert MARKER.encode() not in received


def test_a_header_without_end_is_refused(server):
    with server.connect() as connection:
        with suppress(ConnectionError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx-long: " + b"x" * 1_000_000)
            assert server.predicts()
            connection.sendall(b"\r\n\r\n")
        with suppress(ConnectionError):
            assert connection.recv(65_536)[:12] == b"HTTP/1.1 400"
