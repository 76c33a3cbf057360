"""What tests of the model server share: two small models, which disagree, and a client of the application without sockets."""

import asyncio
from contextlib import asynccontextmanager, suppress

import httpx
import numpy as np
import pandas as pd

from listeners.serving.app import create_app
from listeners.serving.batcher import Batcher
from listeners.serving.model import ModelInfo, ServedModel, digests_of, files_sha256
from listeners.training import model
from listeners.training.serialise import save_model

WORDS = {10: "roman poche livre", 2583: "piscine gonflable eau", 1280: "peluche jouet enfant"}
TEXTS = pd.DataFrame(
    [
        (f"{word} {number}", None if number % 2 else f"{word} {word}")
        for number in range(6)
        for word in WORDS.values()
    ],
    columns=["designation", "description"],
)


def fit_pipelines():
    """By version: the second one has learnt every label wrong."""
    codes = np.array(list(WORDS), np.int64)
    labels = np.tile(codes, 6)
    copies = np.ones(len(labels), np.int64)
    return {
        version: model.fit(TEXTS, given, copies, seed=version, processes=1).pipeline
        for version, given in ((1, labels), (2, np.tile(np.roll(codes, 1), 6)))
    }


def saved(pipelines, directory):
    """By version: the folder of the model's files."""
    folders = {version: directory / str(version) for version in pipelines}
    for version, pipeline in pipelines.items():
        save_model(folders[version], pipeline)
    return folders


def loaded(folders):
    """The models as the server loads them, by version."""
    served = {}
    for version, folder in folders.items():
        info = ModelInfo("rakuten_classifier", version, f"week_{version}", files_sha256(digests_of(folder)))
        served[version] = ServedModel(folder, info)
    return served


@asynccontextmanager
async def application(model, token=None):
    """The application, whose queue is worked on until the end of the block."""
    batcher = Batcher(lambda: model)
    task = asyncio.create_task(batcher.run())
    try:
        yield create_app(lambda: model, batcher, token)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def client(model, token=None):
    """A client of the application."""
    async with application(model, token) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            yield http
