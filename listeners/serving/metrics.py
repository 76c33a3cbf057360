"""What Prometheus reads from the model server: its requests, the model that it serves, and whether it refuses the champion."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from listeners.serving.model import Guess, ModelInfo

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MEASURED: Final = ("/predict", "/model")
_SECONDS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PROBABILITIES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_VERSION: Final = b"x-model-version"


class Metrics(Collector):
    """The metrics of one server.

    Args:
        model: returns what is served now, or None if there is no model yet.
        refused: returns the version of the champion if the server has refused it, else None.
        waiting: returns how many products wait for a prediction.
    """

    def __init__(
        self,
        model: Callable[[], ModelInfo | None],
        refused: Callable[[], int | None],
        waiting: Callable[[], int],
    ) -> None:
        self._model, self._refused, self._waiting = model, refused, waiting
        self._registry = CollectorRegistry()
        self._registry.register(self)
        labels = ("path", "code", "version")
        self._requests = Counter(
            "rakuten_server_requests", "Requests that were answered.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "rakuten_server_request_seconds",
            "Time from the headers of a request to the end of its answer.",
            ("path",),
            registry=self._registry,
            buckets=_SECONDS,
        )

        self._confidence = Histogram(
            "rakuten_server_confidence",
            "Probability of the predicted class, one for each product that was predicted.",
            registry=self._registry,
            buckets=_PROBABILITIES,
        )

    def predicted(self, guesses: Iterable[Sequence[Guess]]) -> None:
        """Note the probability of the first guess for each product. A model without probabilities notes nothing."""
        for first, *_ in guesses:
            if first.probability is not None:
                self._confidence.observe(first.probability)

    def count(self, path: str, code: str, version: str, seconds: float) -> None:
        """Count a request that was answered. `version` is that of the model, or "none" if no model gave the answer."""
        self._requests.labels(path=path, code=code, version=version).inc()
        self._seconds.labels(path=path).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics whose values are read at the time of a scrape."""
        served = GaugeMetricFamily(
            "rakuten_server_model", "1 for the model that is served.", labels=("version", "batch", "sha256")
        )
        if (info := self._model()) is not None:
            served.add_metric([str(info.version), str(info.batch), info.sha256], 1)
        yield served
        refused = GaugeMetricFamily(
            "rakuten_server_refused_champion",
            "1 for the champion that the server has refused to serve.",
            labels=("version",),
        )
        if (version := self._refused()) is not None:
            refused.add_metric([str(version)], 1)
        yield refused
        yield GaugeMetricFamily(
            "rakuten_server_waiting_products", "Products that wait for a prediction.", value=self._waiting()
        )


class MeasureRequests:
    """Counts and times the requests of an application, as ASGI middleware. It leaves out those that are not the API's.

    Args:
        app: the application.
        metrics: where the requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as an ASGI application does."""
        if scope["type"] != "http" or scope["path"] not in _MEASURED:
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        code, version = "none", "none"  # if the client closed the connection before the answer

        async def noticed(message: Message) -> None:
            nonlocal code, version
            if message["type"] == "http.response.start":
                code = str(message["status"])
                version = dict(message["headers"]).get(_VERSION, b"none").decode()
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        finally:
            self._metrics.count(scope["path"], code, version, time.perf_counter() - begun)
