"""The model server answers any request with the model's own predictions, or with a documented error that repeats none of its texts."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import repeat
from urllib.parse import quote

import model_server
import pandas as pd
import pytest
from fuzzing import count, inputs
from hypothesis import example, given
from hypothesis import strategies as st
from request_bodies import MARKER, bodies, expected, may_be_too_deep, near_bodies
from structlog.testing import capture_logs

from listeners.serving.schemas import MOST_PRODUCTS
from listeners.training.text import TEXT_COLUMNS

TOKEN = "t0ken"  # noqa: S105
RIGHT_TOKEN = (b"authorization", f"Bearer {TOKEN}".encode())


@dataclass(frozen=True)
class Request:
    """A request as it comes from the socket: the path is decoded, the body may arrive in pieces and may end too soon."""

    pieces: list[bytes]
    method: str = "POST"
    path: str = "/predict"
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [RIGHT_TOKEN])
    is_whole: bool = True

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def scope(self) -> dict:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": self.method,
            "path": self.path,
            "raw_path": quote(self.path).encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": self.headers,
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40_000),
            "state": {},
        }

    def messages(self) -> Iterator[dict]:
        """What the application receives: the pieces, and then that the client has gone."""
        for piece in self.pieces:
            yield {"type": "http.request", "body": piece, "more_body": True}
        if self.is_whole:
            yield {"type": "http.request", "body": b"", "more_body": False}
        yield from repeat({"type": "http.disconnect"})


class Answer:
    """A status, headers and a body."""

    def __init__(self, messages: list[dict]):
        start, *rest = messages
        self.status, self.headers = start["status"], start["headers"]
        self.body = b"".join(message.get("body", b"") for message in rest)


class Server:
    """The application and its model, on one event loop for all inputs."""

    def __init__(self, model):
        self.model = model
        self.log = []
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._handler = logging.Handler(logging.WARNING)
        self._handler.emit = lambda record: self.log.append(record.getMessage())

    def __enter__(self):
        application = model_server.application(self.model, TOKEN)
        self._app = self._runner.run(self._stack.enter_async_context(application))
        logging.getLogger().addHandler(self._handler)
        paths = json.loads(self.send(Request([], "GET", "/openapi.json")).body)["paths"]
        self.documented = {
            (method.upper(), path): {int(status) for status in operation["responses"]}
            for path, operations in paths.items()
            for method, operation in operations.items()
        }
        return self

    def __exit__(self, *_error):
        logging.getLogger().removeHandler(self._handler)
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def send(self, request: Request) -> Answer:
        """An exception of the application is raised here. Nothing is logged, so no text of a request either."""
        with capture_logs() as events:
            answer = Answer(self._runner.run(self._send(request)))
        assert (events, self.log) == ([], [])
        assert MARKER.encode() not in answer.body
        assert MARKER not in str(answer.headers)
        return answer

    async def _send(self, request: Request) -> list[dict]:
        received, sent = request.messages(), []

        async def receive():
            return next(received)

        async def send(message):
            sent.append(message)

        await self._app(request.scope, receive, send)
        return sent


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pipeline = model_server.fit_pipelines()[1]
    [model] = model_server.loaded(
        model_server.saved({1: pipeline}, tmp_path_factory.mktemp("model"))
    ).values()
    with Server(model) as running:
        yield running


def require_right_answer(server: Server, body: bytes, answer: Answer) -> None:
    """Require the model's predictions for exactly these texts, or a refusal that says where, and count which it is."""
    texts = expected(body)
    if answer.status == 422 and (texts is None or may_be_too_deep(body)):
        problems = json.loads(answer.body)["detail"]
        assert problems
        for problem in problems:
            assert problem["problem"]
            assert all(part in TEXT_COLUMNS or part in range(MOST_PRODUCTS) for part in problem["where"])
        count("requests", accepted=False)
        return
    assert answer.status == 200
    guesses = server.model.guesses(pd.DataFrame(texts, columns=list(TEXT_COLUMNS)))
    predictions = [[guess._asdict() for guess in ranked] for ranked in guesses]
    given = json.loads(answer.body)
    assert [prediction.pop("top") for prediction in given["predictions"]] == predictions
    assert given["predictions"] == [ranked[0] for ranked in predictions]
    assert given["model"]["sha256"] == server.model.info.sha256
    count("requests", accepted=True)


@inputs(short=250, long=20_000)
@given(bodies)
@example(b'{"designation": "\\ud800"}')
@example(b'{"designation": 1, "designation": "livre"}')
@example(json.dumps({"description": "<!--" * 25_000}).encode())  # kept the model busy for half a minute
def test_a_body_gets_the_model_s_own_predictions_or_a_refusal(server, body):
    require_right_answer(server, body, server.send(Request([body])))


# ---- everything around the body

SPOILT_HEADERS = [
    *((b"content-length", value) for value in (b"0", b"1", b"-1", b"99999999999999999999", b"x", b"")),
    *((b"content-type", value) for value in (b"text/plain", b"multipart/form-data", b"application/json; charset=utf-16", b"\xff")),
    *((b"content-encoding", b"gzip"), (b"transfer-encoding", b"gzip, chunked"), (b"expect", b"100-continue")),
    *((b"host", value) for value in (b"[", b"", f"{MARKER}:x".encode(), b"a:99999999", b"\xe9")),
    *((b"authorization", value) for value in (b"", b"Bearer", b"Bearer  t0ken ", f"Bearer {MARKER}".encode(), b"bearer \xff", b"Basic t0ken")),
    *((name, MARKER.encode()) for name in (b"accept", b"cookie", b"origin", b"x-forwarded-for", b"x-http-method-override", b"upgrade")),
    *((b"accept", b"text/html;q=x"), (b"range", b"bytes=0-"), (b"x" * 5_000, b"y" * 50_000), (b"", b"")),
]  # fmt: skip
headers = st.sampled_from(SPOILT_HEADERS) | st.tuples(st.binary(max_size=5), st.binary(max_size=9))
METHODS = [
    "POST",
    "POST",
    "POST",
    "GET",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    MARKER,
    "post",
]
PATHS = [
    *("/predict", "/predict", "/predict", "/predict", "/model", "/healthz", "/readyz", "/docs", "/openapi.json", "/", "", "*"),
    *("/predict/", "//predict", "/PREDICT", "/predict\x00", "/../model", f"/docs/{MARKER}/", "/" + "a" * 10_000, "http://a/predict"),
]  # fmt: skip


@st.composite
def requests(draw) -> Request:
    """A request whose body is cut anywhere, and of which some pieces are empty."""
    body = draw(near_bodies())
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    return Request(
        [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)],
        draw(st.sampled_from(METHODS)),
        draw(st.sampled_from(PATHS) | st.text(max_size=6).map("/".__add__)),
        draw(st.sampled_from([b"", b"", b"designation=" + MARKER.encode(), b"%ff&&=\xff"])),
        draw(st.sampled_from([[RIGHT_TOKEN], [RIGHT_TOKEN], []])) + draw(st.lists(headers, max_size=3)),
        is_whole=draw(st.integers(0, 9)) > 0,
    )


@inputs(short=200, long=10_000)
@given(requests())
def test_any_request_gets_a_documented_answer(server, request):
    answer = server.send(request)
    operation = (request.method, request.path)
    if operation != ("POST", "/predict"):
        assert answer.status in server.documented.get(operation, {200, 404, 405})
        count("requests", accepted=answer.status == 200)
    elif answer.status == 401:
        assert request.headers[:1] != [RIGHT_TOKEN]
        count("requests", accepted=False)
    elif not request.is_whole:
        assert answer.status == 400  # the client has closed the connection
        count("requests", accepted=False)
    else:
        assert answer.status in server.documented[operation] - {500}
        require_right_answer(server, request.body, answer)
