"""Two small models, which disagree, as the server loads them."""

import numpy as np
import pandas as pd
import pytest

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


STRANGE = pd.DataFrame(
    [
        (None, None),
        ("", ""),
        ("a\x00b", "<p>&eacute;</p>"),
        ("\U0001f600" * 500, None),
        ("Piscine", "x" * 5_000),
    ],
    columns=["designation", "description"],
)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture
def products():
    return pd.concat([TEXTS, STRANGE], ignore_index=True)


@pytest.fixture(scope="session")
def pipelines():
    """By version: the second one has learnt every label wrong."""
    codes = np.array(list(WORDS), np.int64)
    labels = np.tile(codes, 6)
    copies = np.ones(len(labels), np.int64)
    return {
        version: model.fit(TEXTS, given, copies, seed=version, processes=1).pipeline
        for version, given in ((1, labels), (2, np.tile(np.roll(codes, 1), 6)))
    }


@pytest.fixture(scope="session")
def folders(pipelines, tmp_path_factory):
    """By version: the folder of the model's files."""
    places = {version: tmp_path_factory.mktemp("models") / str(version) for version in pipelines}
    for version, pipeline in pipelines.items():
        save_model(places[version], pipeline)
    return places


@pytest.fixture(scope="session")
def models(folders):
    served = {}
    for version, folder in folders.items():
        info = ModelInfo("rakuten_classifier", version, f"week_{version}", files_sha256(digests_of(folder)))
        served[version] = ServedModel(folder, info)
    return served
