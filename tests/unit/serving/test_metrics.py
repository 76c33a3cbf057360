"""Prometheus learns which version answers, how long it takes, and whether the champion is refused."""

import pytest
from model_server import client
from scrape import samples
from starlette.testclient import TestClient

from listeners.serving.app import create_app
from listeners.serving.batcher import Batcher

pytestmark = pytest.mark.anyio


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


async def test_the_probability_of_each_predicted_product_is_noted(models):
    async with client(models[1]) as http:
        answer = await http.post("/predict", json=[{"designation": "livre"}, {"designation": "piscine"}])
        found = samples((await http.get("/metrics")).text)
    probabilities = [prediction["probability"] for prediction in answer.json()["predictions"]]
    assert found["rakuten_server_confidence_count",] == 2
    assert found["rakuten_server_confidence_sum",] == pytest.approx(sum(probabilities))
    below = sum(probability <= 0.5 for probability in probabilities)
    assert found["rakuten_server_confidence_bucket", ("le", "0.5")] == below


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
