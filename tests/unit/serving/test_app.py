"""What the server answers: predictions, or a clear refusal."""

import asyncio
import json

import pytest
from model_server import client
from structlog.testing import capture_logs

from listeners.serving import app as module
from listeners.serving import batcher as queue
from listeners.serving.schemas import MOST_PRODUCTS

pytestmark = pytest.mark.anyio

POOL = {"designation": "piscine gonflable eau", "description": None}


async def test_one_product_and_many(models, products):
    async with client(models[1]) as http:
        one = await http.post("/predict", json=POOL)
        given = json.loads(products.to_json(orient="records"))
        many = await http.post("/predict", json=given)
    info = models[1].info
    assert one.status_code == many.status_code == 200
    assert one.headers["x-model-version"] == "1"
    assert one.headers["x-model-sha256"] == info.sha256
    assert one.json()["model"] == {
        "name": info.name,
        "version": 1,
        "batch": "week_1",
        "sha256": info.sha256,
    }
    [first] = one.json()["predictions"]
    assert (first["prdtypecode"], first["category"]) == (2583, "Pools and spas")
    assert first["probability"] == first["top"][0]["probability"]
    expected = [[guess._asdict() for guess in guesses] for guesses in models[1].guesses(products)]
    assert [prediction["top"] for prediction in many.json()["predictions"]] == expected


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", []),
        (b"{", []),
        (b"\xff\xfe", []),
        (b"null", []),
        (b'"text"', []),
        (b"[]", []),
        (b"[1]", [0]),
        (b'[{}, {"designation": 3}]', [1, "designation"]),
        (b'{"description": ["a"]}', ["description"]),
        (b'{"designation": "\\ud800"}', []),
        (json.dumps({"designation": "x" * 10_001}).encode(), ["designation"]),
        (json.dumps([{}] * (MOST_PRODUCTS + 1)).encode(), []),
        (b"[" * 100_000, []),
        (json.dumps({"description": "<!--" * 25_000}).encode(), ["description"]),  # half a minute of work
        (json.dumps({"designation": "&amp;lt;!--" * 900}).encode(), ["designation"]),
    ],
)
async def test_a_body_that_is_no_product_is_refused_with_the_place(models, body, where):
    async with client(models[1]) as http:
        refused = await http.post("/predict", content=body)
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["where"] == where
        assert refused.json()["detail"][0]["problem"]
        assert (await http.post("/predict", json=POOL)).status_code == 200


async def test_a_long_body_is_refused_before_it_is_read_to_its_end(models, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1_000)
    read = []

    async def endless():
        while True:
            read.append(1)
            yield b"[" * 100

    async with client(models[1]) as http:
        refused = await http.post("/predict", content=endless())
    assert (refused.status_code, len(read)) == (413, 11)


async def test_html_comments_that_end_are_no_reason_to_refuse(models):
    text = "<!--" * 1_000 + "<!-- a -->" * 1_000 + "<!--" * 10
    async with client(models[1]) as http:
        assert (await http.post("/predict", json={"description": text})).status_code == 200


async def test_a_body_that_arrives_too_slowly_is_given_up_and_the_connection_closed(models, monkeypatch):
    monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.05)

    async def endless():
        while True:
            yield b"["
            await asyncio.sleep(0.001)

    async with client(models[1]) as http:
        slow = await http.post("/predict", content=endless())
    assert (slow.status_code, slow.headers["connection"]) == (408, "close")
    assert slow.json() == {"detail": "the body did not arrive within 0.05 s"}


async def test_an_address_with_a_slash_more_is_not_redirected(models):
    async with client(models[1]) as http:
        assert (await http.post("/predict/", json=POOL)).status_code == 404


async def test_without_a_model_the_server_lives_and_is_not_ready():
    async with client(None) as http:
        answers = {path: await http.get(path) for path in ("/healthz", "/readyz", "/model")}
        answers["/predict"] = await http.post("/predict", json=POOL)
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/healthz": 200,
        "/readyz": 503,
        "/model": 503,
        "/predict": 503,
    }
    assert answers["/predict"].headers["retry-after"]


async def test_a_full_queue_asks_to_come_again(models, monkeypatch):
    monkeypatch.setattr(queue, "_MOST_WAITING", 1)
    async with client(models[1]) as http:
        answers = await asyncio.gather(*(http.post("/predict", json=POOL) for _ in range(20)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert {answer.status_code for answer in answers} == {200, 503}


async def test_a_prediction_that_takes_too_long_is_given_up(models, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.0)
    async with client(models[1]) as http:
        assert (await http.post("/predict", json=POOL)).status_code == 504


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic secret"}, 401),
        ({"authorization": "Bearer sécret"}, 401),
        ({"authorization": "bearer secret"}, 200),
    ],
)
async def test_a_token_protects_the_model_and_its_predictions(models, header, status):
    header = {name: value.encode() for name, value in header.items()}
    async with client(models[1], token="secret") as http:  # noqa: S106
        assert (await http.post("/predict", json=POOL, headers=header)).status_code == status
        assert (await http.get("/model", headers=header)).status_code == status
        assert (await http.get("/readyz")).status_code == 200


async def test_openapi_describes_body_and_answer(models):
    async with client(models[1]) as http:
        described = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 200
    predict = described["paths"]["/predict"]["post"]
    assert predict["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert set(predict["responses"]) == {"200", "401", "408", "413", "422", "500", "503", "504"}
    assert predict["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "/Predictions"
    )


class Failing:
    """A model that raises an error whose text repeats the product."""

    info = None

    def guesses(self, products):
        raise ValueError(products.designation[0])


async def test_an_error_of_the_model_is_named_without_the_texts_of_the_product():
    with capture_logs() as logs:
        async with client(Failing()) as http:
            answer = await http.post("/predict", json={"designation": "SECRET"})
    assert (answer.status_code, answer.json()) == (
        500,
        {"detail": "the model raised ValueError for these products"},
    )
    [line] = logs
    assert (line["event"], line["error"]) == ("the model failed", "ValueError")
    assert line["place"].startswith(f"{__file__}:")  # where Failing raises it
    assert "SECRET" not in str(line)
