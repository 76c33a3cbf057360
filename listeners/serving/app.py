"""The HTTP interface of the model server."""

import asyncio
import hmac
from collections.abc import Callable
from typing import Final

from fastapi import Depends, FastAPI, HTTPException, Request, Response

from listeners.serving.batcher import Answer, Batcher, BusyError, NoModelError
from listeners.serving.model import ModelInfo, ServedModel
from listeners.serving.schemas import (
    BODY,
    BadBodyError,
    Class,
    Prediction,
    Predictions,
    ServedBy,
    parse_products,
)

MOST_BYTES: Final = 8 << 20  # of a body
_TIMEOUT_S: Final = 30.0
_RETRY_SOON: Final = {"Retry-After": "1"}
_RETRY_LATER: Final = {"Retry-After": "10"}


def create_app(model: Callable[[], ServedModel | None], batcher: Batcher, token: str | None) -> FastAPI:
    """Return the application.

    Args:
        model: returns the model that is served now, or None if there is none yet.
        batcher: predicts; its task `run` must run on the same event loop.
        token: the bearer token that requests need, or None if they need none.
    """
    app = FastAPI(
        title="Rakuten product classes",
        description="Predicts the class of products from their texts.",
        redoc_url=None,
    )

    # It is async, although it awaits nothing: FastAPI calls a plain function in a thread, which took 1.2 of 3.0 ms of CPU.
    async def require_token(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if token is not None and not (
            scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
        ):
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    def served() -> ServedModel:
        if (present := model()) is None:
            raise HTTPException(503, "there is no model yet", _RETRY_LATER)
        return present

    allowed = [Depends(require_token)]

    @app.post("/predict", dependencies=allowed, response_model=Predictions, openapi_extra=BODY)
    async def predict(request: Request) -> Response:
        """Predict the class of one product, or of each product in a list."""
        answer = await _answer(batcher, await _body(request))
        content = _predictions(answer).model_dump_json()
        return Response(content, media_type="application/json", headers=_headers(answer.model))

    @app.get("/model", dependencies=allowed)
    def model_info(response: Response) -> ServedBy:
        """Return which model is served now."""
        info = served().info
        response.headers.update(_headers(info))
        return ServedBy.model_validate(info)

    @app.get("/healthz", response_class=Response)
    def healthz() -> Response:
        """Answer 200 while the server runs."""
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", response_class=Response)
    def readyz() -> Response:
        """Answer 200 if there is a model, else 503."""
        served()
        return Response("ready\n", media_type="text/plain")

    return app


async def _body(request: Request) -> bytes:
    """Return the body of a request. Stop to read where it is too long, whatever its headers say."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(
                413, f"the body is longer than {MOST_BYTES:,} bytes: send fewer products at once"
            )
    return bytes(body)


async def _answer(batcher: Batcher, body: bytes) -> Answer:
    try:
        products = parse_products(body)
        async with asyncio.timeout(_TIMEOUT_S):
            return await batcher.predict([(one.designation, one.description) for one in products])
    except BadBodyError as error:
        raise HTTPException(422, error.problems) from None
    except NoModelError:
        raise HTTPException(503, "there is no model yet", _RETRY_LATER) from None
    except BusyError:
        raise HTTPException(503, "too many requests wait already", _RETRY_SOON) from None
    except TimeoutError:
        raise HTTPException(504, f"no prediction within {_TIMEOUT_S:.0f} s", _RETRY_SOON) from None


def _predictions(answer: Answer) -> Predictions:
    predictions = []
    for guesses in answer.guesses:
        top = [Class(**guess._asdict()) for guess in guesses]
        predictions.append(Prediction(**guesses[0]._asdict(), top=top))
    return Predictions(model=ServedBy.model_validate(answer.model), predictions=predictions)


def _headers(info: ModelInfo) -> dict[str, str]:
    version = {} if info.version is None else {"X-Model-Version": str(info.version)}
    return {**version, "X-Model-SHA256": info.sha256}
