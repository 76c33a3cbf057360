"""Prometheus learns which version answers, how long it takes, and whether the champion is refused."""

import pytest
from model_server import client
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from listeners.serving.app import create_app
from listeners.serving.batcher import Batcher

pytestmark = pytest.mark.anyio


def samples(text):
    """Each value by the metric's name and its labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_requests_are_counted_by_code_and_version(models):
    async with client(models[1]) as http:
        bodies = ('{"designation": "livre"}', '{"designation": 1}', "[]")
        assert [(await http.post("/predict", content=body)).status_code for body in bodies] == [200, 422, 422]
        await http.get("/healthz")
        found = samples((await http.get("/metrics")).text)
    path = ("path", "/predict")
    assert found["rakuten_server_requests_total", ("code", "200"), path, ("version", "1")] == 1
    assert found["rakuten_server_requests_total", ("code", "422"), path, ("version", "none")] == 2
    assert found["rakuten_server_request_seconds_count", path] == 3
    assert {labels[1] for name, *labels in found if name == "rakuten_server_requests_total"} == {path}


def test_the_version_that_is_served_and_the_one_that_is_refused_are_shown(models):
    app = create_app(lambda: models[1], Batcher(lambda: models[1]), None, refused=lambda: 2)
    found = samples(TestClient(app).get("/metrics").text)
    info = models[1].info
    assert (
        found["rakuten_server_model", ("batch", info.batch), ("sha256", info.sha256), ("version", "1")] == 1
    )
    assert found["rakuten_server_refused_champion", ("version", "2")] == 1
    assert found["rakuten_server_waiting_products",] == 0


def test_a_server_without_a_model_shows_none(models):
    app = create_app(lambda: None, Batcher(lambda: None), "secret")
    assert TestClient(app).get("/metrics").status_code == 401
    found = samples(TestClient(app).get("/metrics", headers={"authorization": "Bearer secret"}).text)
    assert not [
        name for name, *_ in found if name in {"rakuten_server_model", "rakuten_server_refused_champion"}
    ]
