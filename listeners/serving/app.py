"""The HTTP interface of the model server."""

import asyncio
import hmac
from collections.abc import Callable
from typing import Any, Final

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from starlette.requests import ClientDisconnect

from listeners.serving.batcher import Answer, Batcher, BusyError, NoModelError, PredictionError
from listeners.serving.metrics import CONTENT_TYPE, MeasureRequests, Metrics
from listeners.serving.model import ModelInfo, ServedModel
from listeners.serving.schemas import (
    BODY,
    BadBody,
    BadBodyError,
    Class,
    Prediction,
    Predictions,
    Refusal,
    ServedBy,
    parse_products,
)

MOST_BYTES: Final = 4 << 20  # of a body; so much text takes the model some 5 s
# From the headers to the end of the body. The longest body then needs 140 KB a second.
BODY_TIMEOUT_S: Final = 30.0
_TIMEOUT_S: Final = 30.0
_CLOSE: Final = {"Connection": "close"}
_RETRY_SOON: Final = {"Retry-After": "1"}
_RETRY_LATER: Final = {"Retry-After": "10"}

# The answers that are no success, for OpenAPI.
_NEEDS_TOKEN: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Refusal, "description": "The bearer token is missing or wrong."}
}
_NO_MODEL: Final[dict[int | str, dict[str, Any]]] = {
    503: {"model": Refusal, "description": "There is no model yet, or too many requests wait already."}
}
_NO_PREDICTION: Final[dict[int | str, dict[str, Any]]] = {
    408: {"model": Refusal, "description": f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s."},
    413: {"model": Refusal, "description": f"The body is longer than {MOST_BYTES:,} bytes."},
    422: {"model": BadBody, "description": "The body is not one product or a list of products."},
    500: {"model": Refusal, "description": "The model raised an error for these products."},
    504: {"model": Refusal, "description": f"There was no prediction within {_TIMEOUT_S:.0f} s."},
}


def create_app(
    model: Callable[[], ServedModel | None],
    batcher: Batcher,
    token: str | None,
    refused: Callable[[], int | None] = lambda: None,
) -> FastAPI:
    """Return the application.

    Args:
        model: returns the model that is served now, or None if there is none yet.
        batcher: predicts; its task `run` must run on the same event loop.
        token: the bearer token that requests need, or None if they need none.
        refused: returns the version of the champion if the server has refused it, else None.
    """
    app = FastAPI(
        title="Rakuten product classes",
        description="Predicts the class of products from their texts.",
        redoc_url=None,
        redirect_slashes=False,  # a redirect repeats the address and the host of the request, and fails on a malformed host
    )
    metrics = Metrics(
        lambda: None if (present := model()) is None else present.info, refused, lambda: batcher.rows_waiting
    )
    app.add_middleware(MeasureRequests, metrics=metrics)

    # It is async, although it awaits nothing: FastAPI calls a plain function in a thread, which took 1.2 of 3.0 ms of CPU.
    async def require_token(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if token is not None and not (
            scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
        ):
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    def served() -> ServedModel:
        if (present := model()) is None:
            raise _no_model()
        return present

    allowed = [Depends(require_token)]

    @app.post(
        "/predict",
        dependencies=allowed,
        response_model=Predictions,
        responses=_NEEDS_TOKEN | _NO_MODEL | _NO_PREDICTION,
        openapi_extra=BODY,
    )
    async def predict(request: Request) -> Response:
        """Predict the class of one product, or of each product in a list."""
        answer = await _answer(batcher, await _body(request))
        metrics.predicted(answer.guesses)
        content = _predictions(answer).model_dump_json() + "\n"
        return Response(content, media_type="application/json", headers=_headers(answer.model))

    @app.get("/model", dependencies=allowed, response_model=ServedBy, responses=_NEEDS_TOKEN | _NO_MODEL)
    def model_info() -> Response:
        """Return which model is served now."""
        info = served().info
        content = ServedBy.model_validate(info).model_dump_json() + "\n"
        return Response(content, media_type="application/json", headers=_headers(info))

    @app.get("/healthz", response_class=Response)
    def healthz() -> Response:
        """Answer 200 while the server runs."""
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", response_class=Response, responses=_NO_MODEL)
    def readyz() -> Response:
        """Answer 200 if there is a model, else 503."""
        served()
        return Response("ready\n", media_type="text/plain")

    @app.get("/metrics", dependencies=allowed, response_class=Response, responses=_NEEDS_TOKEN)
    def metrics_page() -> Response:
        """Return the metrics of the server in the text format of Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return app


async def _body(request: Request) -> bytes:
    """Return the body of a request. Stop reading when the body is too long or arrives too slowly.

    The headers of the request do not decide this, because a client can send wrong headers.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise HTTPException(
                        413, f"the body is longer than {MOST_BYTES:,} bytes: send fewer products at once"
                    )
    except TimeoutError:  # closing the connection is the only way to stop a client that sends slowly
        raise HTTPException(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s", _CLOSE) from None
    except ClientDisconnect:
        # The client does not get this answer. But without it, the exception would be logged as an error of the server.
        raise HTTPException(400, "the connection was closed before the end of the body") from None
    return bytes(body)


async def _answer(batcher: Batcher, body: bytes) -> Answer:
    try:
        products = parse_products(body)
        async with asyncio.timeout(_TIMEOUT_S):
            return await batcher.predict([(one.designation, one.description) for one in products])
    except BadBodyError as error:
        raise HTTPException(422, error.problems) from None
    except NoModelError:
        raise _no_model() from None
    except BusyError:
        raise HTTPException(503, "too many requests wait already", _RETRY_SOON) from None
    except PredictionError as error:
        raise HTTPException(500, f"the model raised {error} for these products") from None
    except TimeoutError:
        raise HTTPException(504, f"no prediction within {_TIMEOUT_S:.0f} s", _RETRY_SOON) from None


def _no_model() -> HTTPException:
    return HTTPException(503, "there is no model yet", _RETRY_LATER)


def _predictions(answer: Answer) -> Predictions:
    predictions = []
    for guesses in answer.guesses:
        top = [Class(**guess._asdict()) for guess in guesses]
        predictions.append(Prediction(**guesses[0]._asdict(), top=top))
    return Predictions(model=ServedBy.model_validate(answer.model), predictions=predictions)


def _headers(info: ModelInfo) -> dict[str, str]:
    version = {} if info.version is None else {"X-Model-Version": str(info.version)}
    return {**version, "X-Model-SHA256": info.sha256}
