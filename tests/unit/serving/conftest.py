"""Two small models, which disagree, as the server loads them."""

import model_server
import pandas as pd
import pytest

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
    return pd.concat([model_server.TEXTS, STRANGE], ignore_index=True)


@pytest.fixture(scope="session")
def pipelines():
    return model_server.fit_pipelines()


@pytest.fixture(scope="session")
def folders(pipelines, tmp_path_factory):
    """By version: the folder of the model's files."""
    return model_server.saved(pipelines, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def models(folders):
    return model_server.loaded(folders)
